"""What the benchmarks share: two alternatives timed in turn, and a line that says what came out."""

from collections.abc import Callable
from pathlib import Path
from statistics import median

from spin_rl.envs import get_task
from spin_rl.platform.datasets.collect import make_dataset


def paired(first: Callable[[], float], second: Callable[[], float], rounds: int) -> tuple[float, float]:
    """Medians of both, measured in turn after one round that does not count: the machine's drift meets both alike."""
    first(), second()
    pairs = [(first(), second()) for _ in range(rounds)]
    return median(a for a, _ in pairs), median(b for _, b in pairs)


def show(what: str, ours: float, reference: float, aim: float | None = None) -> None:
    """Print both rates and their ratio."""
    verdict = "" if aim is None else f" (aim: at least {aim:g})"
    print(f"{what}: {ours:,.1f} / {reference:,.1f} = {ours / reference:.2f}{verdict}", flush=True)


def make_random_dataset(root: Path, task: str, size: int) -> str:
    """A dataset of a uniformly random policy; returns its folder."""
    made = make_dataset(get_task(task), "random", size, root=str(root), workers=0)
    return str(made.location)
