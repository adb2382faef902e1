"""What ten stop times cost through the store, against ten pretrainings that know nothing of each other; CPU seconds.

Ten models, after 15, 30, ... 150 steps, and a policy trained on each for 190 updates: the proportion of pretraining to
training that the stop-time sweep has. Validation and files are counted on both sides, evaluation on none.
"""

import os
import time

os.environ["OMP_NUM_THREADS"] = "1"

from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from harness import make_random_dataset

from spin_rl.algorithms.asm.files import load_asm
from spin_rl.algorithms.asm.pretraining import ASMConfig
from spin_rl.algorithms.data.batches import DeviceTransitions
from spin_rl.algorithms.objectives import IQLSettings
from spin_rl.algorithms.presets import get_preset
from spin_rl.algorithms.pretraining.checkpoints import ensure_pretrained
from spin_rl.algorithms.training.agent import AgentSpec, OfflineAgent
from spin_rl.platform.asm_store.store import ASMStore
from spin_rl.platform.datasets import OfflineDataset, open_dataset

STOPS = range(15, 151, 15)
UPDATES = 190
AIM = 0.4


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process, all of its threads: other processes on the machine do not count."""
    started = time.process_time()
    work()
    return time.process_time() - started


def pretrain(root: Path, dataset: OfflineDataset, config: ASMConfig, stops: Iterable[int]) -> None:
    """Each of ``stops`` from the first step on: a store of its own finds nothing."""
    for stop in stops:
        ensure_pretrained(ASMStore(root / str(stop)), dataset, config, [stop])


def train(algorithm: str, dataset: OfflineDataset, folders: list[Path], data: DeviceTransitions) -> None:
    """A policy on each of the models."""
    meta = dataset.meta
    spec = AgentSpec(algorithm, meta.observation_size, meta.nvec, get_preset("small"), IQLSettings())
    for folder in folders:
        OfflineAgent(spec, asm=load_asm(folder)).train(data, UPDATES)


def show(what: str, ours: float, reference: float) -> None:
    print(f"{what}: {ours:.1f} s / {reference:.1f} s = {ours / reference:.2f} (aim: at most {AIM:g})", flush=True)


def main() -> None:
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        root = Path(folder)
        make_random_dataset(root, "cheetah-run", 20_000)
        dataset = open_dataset("cheetah-run", "random", root=folder)
        config = ASMConfig(sizes=get_preset("small").asm)
        shared, apart = ASMStore(root / "shared"), root / "apart"
        pretrain(root / "warm-up", dataset, config, [5])
        checkpoints = []
        with_store = seconds(lambda: checkpoints.extend(ensure_pretrained(shared, dataset, config, list(STOPS))))
        without = seconds(lambda: pretrain(apart, dataset, config, STOPS))
        show(f"{len(STOPS)} models through the store against as many pretrainings", with_store, without)
        data = DeviceTransitions(dataset, torch.device("cpu"))
        folders = [Path(checkpoint.path) for checkpoint in checkpoints]
        for algorithm in ("spin", "spin-cached"):
            policies = seconds(lambda algorithm=algorithm: train(algorithm, dataset, folders, data))  # type: ignore[misc]
            show(f"the same with {UPDATES} updates of {algorithm} on each", with_store + policies, without + policies)


if __name__ == "__main__":
    main()
