"""Datasets: collected with behaviour policies."""

from collections.abc import Callable
from pathlib import Path

from spin_rl.envs import get_task
from spin_rl.platform.datasets import collect
from spin_rl.platform.datasets.collect import MadeDataset


def make_dataset(
    task: str,
    level: str,
    size: int | None = None,
    *,
    bins: int = 3,
    seed: int = 0,
    epsilon: float = 0.0,
    root: str | Path | None = None,
    workers: int | None = None,
    policies: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> MadeDataset:
    """Collect a dataset, or find the one that an equal call made. A killed collection resumes.

    Example: ``make_dataset("cheetah-run", "medium-expert", 20_000).location``

    Args:
        task: name of the task, such as ``cheetah-run``.
        level: which behaviour policies; each gives whole episodes of at least an equal share of ``size``.
        size: transitions; the paper's number by default. Another size, seed, epsilon or policy makes the next version.
        bins: choices of each action dimension.
        seed: non-negative; equal seeds give equal bits.
        epsilon: probability of a uniformly drawn choice, for each sub-action of the trained policies.
        root: where datasets lie.
        workers: Ray tasks side by side, by default one per CPU; 0 collects in this process, without Ray.
        policies: folder of behaviour policies; the shipped ones by default.
        on_progress: called with the transitions so far and in all.

    Returns:
        The dataset's metadata, its location, and whether it existed before.

    Raises:
        UserError: unknown task, bins or level, no policy for the level, bad numbers, or the root cannot be written.
    """
    return collect.make_dataset(
        get_task(task, bins),
        level,
        size,
        seed=seed,
        root=root,
        epsilon=epsilon,
        workers=workers,
        policies=policies,
        on_progress=on_progress,
    )
