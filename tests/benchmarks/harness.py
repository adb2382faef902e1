"""What the benchmarks share: two alternatives timed in turn, and a line that says what came out."""

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np

from spin_rl.envs import get_task, nvec_of
from spin_rl.envs.rollout import Episode
from spin_rl.platform.datasets.build import Origin, build_dataset
from spin_rl.platform.datasets.collect import make_dataset
from spin_rl.platform.datasets.rows import Rows, rows_of
from spin_rl.platform.datasets.store import DatasetRoot


def paired(first: Callable[[], float], second: Callable[[], float], rounds: int) -> tuple[float, float]:
    """Medians of both, measured in turn after one round that does not count: the machine's drift meets both alike."""
    first(), second()
    pairs = [(first(), second()) for _ in range(rounds)]
    return median(a for a, _ in pairs), median(b for _, b in pairs)


def show(what: str, ours: float, reference: float, aim: float | None = None) -> None:
    """Print both rates and their ratio, and whether that is what it should be."""
    met = aim is None or ours / reference >= aim
    verdict = "" if aim is None else f" (aim: at least {aim:g}{'' if met else ', MISSED'})"
    print(f"{what}: {ours:,.1f} / {reference:,.1f} = {ours / reference:.2f}{verdict}", flush=True)


def make_random_dataset(root: Path, task: str, size: int) -> str:
    """A dataset of a uniformly random policy; returns its folder."""
    made = make_dataset(get_task(task), "random", size, root=str(root), workers=0)
    return str(made.location)


def make_noise_dataset(root: Path, task: str, size: int) -> None:
    """A dataset of noise in a task's shapes, level random: made in seconds, for what does not depend on the content."""
    problem = get_task(task)
    env = problem.make()
    width, nvec = env.observation_space.shape[0], nvec_of(env)
    generator = np.random.default_rng(0)

    def episodes(steps: int = 1000, block: int = 50) -> Iterator[Rows]:
        for _ in range(size // (steps * block)):
            yield rows_of(
                [
                    Episode(
                        generator.random((steps + 1, width), np.float32),
                        generator.integers(nvec, size=(steps, len(nvec))).astype(np.int16),
                        generator.random(steps, np.float32),
                        terminated=False,
                    )
                    for _ in range(block)
                ]
            )

    place = DatasetRoot(root)
    metadata = build_dataset(
        root / "building",
        [(Origin("random", "noise", "", 1.0), episodes())],
        task=task,
        bins=problem.bins,
        level="random",
        version=1,
        nvec=nvec,
        observation_size=width,
        requested_size=size,
        seed=0,
        reference_random=None,
        reference_expert=None,
    )
    place.publish(root / "building", metadata.key)
