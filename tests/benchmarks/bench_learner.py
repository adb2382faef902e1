"""Policy updates per second inside RLlib against a plain PyTorch loop of the same networks and batch.

One thread, processor time of the whole process: Ray's own threads count, other programs on the machine do not.
"""

import os
import time

os.environ["OMP_NUM_THREADS"] = "1"

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import ray
import torch
from harness import make_random_dataset, paired, show

from spin_rl.algorithms.asm.model import ActionStructureModel
from spin_rl.algorithms.asm.pretraining import ASMConfig
from spin_rl.algorithms.data.batches import DeviceTransitions
from spin_rl.algorithms.pretraining.checkpoints import ensure_pretrained
from spin_rl.algorithms.rllib import ALGORITHMS
from spin_rl.algorithms.rllib.config import OfflineConfig
from spin_rl.algorithms.training.agent import OfflineAgent
from spin_rl.platform.asm_store.store import ASMStore
from spin_rl.platform.datasets import open_dataset

UPDATES = {"factored": 300, "spin": 100, "spin-cached": 300}
BATCH = 256


def plain_loop(agent: OfflineAgent, data: DeviceTransitions, updates: int) -> float:
    """Seconds for so many updates, as one writes them by hand: draw a minibatch, update, next."""
    agent.prepare(data)
    agent.objective.train()
    started = time.process_time()
    for _ in range(updates):
        batch = data.gather(torch.randint(data.size, (BATCH,)))
        agent.objective.update(batch._replace(table=agent.table))
    return time.process_time() - started


def inside_rllib(algorithm: "ray.rllib.algorithms.Algorithm") -> float:
    """Seconds for one training iteration, everything RLlib does around its updates included."""
    started = time.process_time()
    algorithm.train()
    return time.process_time() - started


def main() -> None:
    torch.set_num_threads(1)
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")
    with TemporaryDirectory() as folder:
        path = make_random_dataset(Path(folder), "cheetah-run", 10_000)
        dataset = open_dataset("cheetah-run", "random", root=folder)
        for name, updates in UPDATES.items():
            config: OfflineConfig = ALGORITHMS[name].get_default_config()
            config.environment("spin_rl/cheetah-run-3-v0").offline_data(input_=path).training(
                preset="small", updates_per_iteration=updates, evaluate_every=1000 * updates, evaluation_episodes=1
            )
            sizes = config.settings.resolved_preset().asm
            if name != "factored":
                store = ASMStore(Path(folder) / "asm")
                config.training(asm=ensure_pretrained(store, dataset, ASMConfig(sizes=sizes), [0])[0].path)
            algorithm = config.build_algo()
            algorithm.train()  # the first iteration only evaluates
            asm = ActionStructureModel(dataset.meta.observation_size, dataset.meta.nvec, sizes)
            agent = OfflineAgent(config.settings.agent_spec(), asm=asm)
            data = DeviceTransitions(dataset, torch.device("cpu"))
            ours, plain = paired(partial(inside_rllib, algorithm), partial(plain_loop, agent, data, updates), rounds=3)
            show(
                f"{name} (small, batch {BATCH}): updates/s inside RLlib against a plain loop",
                updates / ours,
                updates / plain,
                aim=0.9,
            )
            algorithm.stop()
    ray.shutdown()


if __name__ == "__main__":
    main()
