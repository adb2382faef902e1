"""Pretraining for a sweep: all missing models at the same time, as Ray tasks, with progress."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
import torch

from spin_rl.algorithms.pretraining.base import PretrainingConfig
from spin_rl.algorithms.pretraining.checkpoints import ensure_pretrained, missing_steps
from spin_rl.platform.asm_store.store import ASMStore
from spin_rl.sweeps.planning.datasets import open_by_path
from spin_rl.sweeps.planning.plan import PretrainingPlan
from spin_rl.sweeps.running.progress import SweepProgress


def pretrain_all(plans: Sequence[PretrainingPlan], store: ASMStore, progress: SweepProgress) -> None:
    """Make every checkpoint of ``plans`` that the store does not hold, with one CPU for each model. Ray must be up."""
    missing = [plan for plan in plans if missing_steps(store, open_by_path(plan.dataset), plan.config, plan.steps)]
    if not missing:
        return
    board = _Board.remote()  # type: ignore[attr-defined]
    tasks = {}
    for plan in missing:
        label = f"{plan.config.label} {plan.dataset.rsplit('/', 2)[1]} seed {plan.config.seed}"
        bar = progress.add(label, max(plan.steps), "step")
        tasks[_pretrain.remote(plan.dataset, plan.config, plan.steps, str(store.root), board, bar)] = bar
    waiting = list(tasks)
    try:
        while waiting:
            done, waiting = ray.wait(waiting, timeout=0.5)
            for bar, (step, loss) in ray.get(board.read.remote()).items():
                progress.update(bar, step, f"loss {loss:.3f}")
            for task in done:
                ray.get(task)
                progress.finish(tasks[task])
    finally:
        for task in waiting:
            ray.cancel(task, force=True)
        ray.kill(board)


@ray.remote(num_cpus=0)
class _Board:
    """Where the tasks report their progress."""

    def __init__(self) -> None:
        self._latest: dict[int, tuple[int, float]] = {}

    def write(self, bar: int, step: int, loss: float) -> None:
        self._latest[bar] = (step, loss)

    def read(self) -> dict[int, tuple[int, float]]:
        return self._latest


@ray.remote(num_cpus=1, max_retries=2)
def _pretrain(
    dataset: str, config: PretrainingConfig, steps: tuple[int, ...], store: str, board: Any, bar: int
) -> None:
    torch.set_num_threads(1)  # the number of threads determines how sums are rounded
    ensure_pretrained(
        ASMStore(Path(store)),
        open_by_path(dataset),
        config,
        steps,
        on_step=lambda step, loss: board.write.remote(bar, step, loss),
    )
