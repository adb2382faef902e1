"""Opening and sampling a million cheetah-run transitions: time, memory, minibatches per second; one thread."""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import torch
from harness import make_noise_dataset, show

from spin_rl.algorithms.data.batches import DeviceTransitions, draw_indices
from spin_rl.platform.datasets import open_dataset

SIZE, BATCH, DRAWN = 1_000_000, 256, 64


def main() -> None:
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        make_noise_dataset(Path(folder), "cheetah-run", SIZE)
        started = time.perf_counter()
        open_dataset("cheetah-run", "random", root=folder)
        print(f"first opening (verifies every value, makes the Arrow copy): {time.perf_counter() - started:.2f} s")
        process = psutil.Process()
        before = process.memory_full_info().uss
        started = time.perf_counter()
        dataset = open_dataset("cheetah-run", "random", root=folder)
        seconds = time.perf_counter() - started
        grown = (process.memory_full_info().uss - before) / 2**20
        size = dataset.observations.nbytes / 2**20
        print(f"opening {SIZE:,} transitions: {seconds * 1e3:.1f} ms (aim: under 100 ms)")
        print(f"private memory taken by it: {grown:.1f} MiB, of {size:.0f} MiB of observations (aim: no copy)")

        cpu = torch.device("cpu")
        data = DeviceTransitions(dataset, cpu)
        seconds = _rate(lambda first: data.gather(draw_indices(0, 0, first, DRAWN, BATCH, data.size, cpu)))
        print(f"minibatches of {BATCH} in a second of one core: {DRAWN / seconds:,.0f} (aim: 20,000)")
        drawn = [draw_indices(1, 0, first, 1, BATCH, data.size, cpu)[0].numpy() for first in range(DRAWN)]
        seconds_numpy = _rate(lambda _: [dataset.batch(indices) for indices in drawn])
        print(f"the same without PyTorch, one at a time: {DRAWN / seconds_numpy:,.0f}")
        # the plain reference: fancy indexing into arrays in memory, one minibatch at a time
        observations, actions = np.array(dataset.observations), np.array(dataset.actions)
        rewards, rows = np.array(dataset.rewards), np.array(dataset.transitions)
        generator = np.random.default_rng(0)

        def plain(_first: int) -> None:
            for _ in range(DRAWN):
                chosen = rows[generator.integers(len(rows), size=BATCH)]
                for array in (observations, actions, rewards):
                    torch.from_numpy(array[chosen])
                torch.from_numpy(observations[chosen + 1])

        reference = _rate(plain)
        show(
            f"minibatches of {BATCH} in a second of one core against NumPy arrays in memory",
            DRAWN / seconds,
            DRAWN / reference,
        )


def _rate(draw: Callable[[int], object]) -> float:
    """Seconds of this core for one call, the mean of many after a few that do not count.

    Time in which the core works for others does not count; that they use its caches does.
    """
    for first in range(5):
        draw(first * DRAWN)
    started = time.process_time()
    for first in range(5, 105):
        draw(first * DRAWN)
    return (time.process_time() - started) / 100


if __name__ == "__main__":
    main()
