"""Collecting a dataset with one process and with two: the gain that a second core gives."""

import time
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import ray
from harness import paired

from spin_rl.envs import get_task
from spin_rl.platform.datasets.collect import make_dataset

SIZE = 60_000
"""Transitions: six chunks, of which two processes collect three each."""


def main() -> None:
    ray.init(address="local", include_dashboard=False, num_cpus=2, log_to_driver=False, logging_level="error")
    seeds = count()
    with TemporaryDirectory() as folder:

        def collect(workers: int) -> float:
            started = time.perf_counter()
            make_dataset(get_task("cheetah-run"), "medium", SIZE, seed=next(seeds), root=Path(folder), workers=workers)
            return time.perf_counter() - started

        one, two = paired(lambda: collect(1), lambda: collect(2), rounds=3)
    print(f"transitions per second with 2 processes against 1: {SIZE / two:,.0f} / {SIZE / one:,.0f} = {one / two:.2f}")
    ray.shutdown()


if __name__ == "__main__":
    main()
