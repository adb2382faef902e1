"""Five seeds at once against five one after the other, IQL at the small preset; one thread, processor time."""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from harness import make_random_dataset, paired, show
from learner import CPU, make_asm, make_spec

from spin_rl.algorithms.data.batches import DeviceTransitions
from spin_rl.algorithms.networks.precision import onednn_keeps_float32
from spin_rl.algorithms.training.agent import OfflineAgent
from spin_rl.algorithms.training.seeds import SeedsAgent
from spin_rl.platform.datasets import open_dataset

SEEDS, UPDATES = range(5), 10


def main() -> None:
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        make_random_dataset(Path(folder), "cheetah-run", 5000)
        data = DeviceTransitions(open_dataset("cheetah-run", "random", root=folder), CPU)
        for onednn in (False, True) if onednn_keeps_float32() else (False,):
            for method in ("factored", "spin", "spin-cached"):
                spec = replace(make_spec(method, "small", "cheetah-run"), onednn=onednn)
                asm = make_asm(spec)
                together = SeedsAgent(spec, SEEDS, asm=asm)
                alone = [OfflineAgent(replace(spec, seed=seed), asm=asm) for seed in SEEDS]

                def at_once(together: SeedsAgent = together) -> float:
                    started = time.process_time()
                    together.train(data, UPDATES)
                    return time.process_time() - started

                def one_by_one(alone: list[OfflineAgent] = alone) -> float:
                    started = time.process_time()
                    for agent in alone:
                        agent.train(data, UPDATES)
                    return time.process_time() - started

                ours, reference = paired(at_once, one_by_one, rounds=3)
                made = len(SEEDS) * UPDATES
                products = "oneDNN" if onednn else "MKL"
                show(
                    f"{method} (small, {products}): updates/s of all of five seeds at once against one after the other",
                    made / ours,
                    made / reference,
                    aim=1.5,
                )


if __name__ == "__main__":
    main()
