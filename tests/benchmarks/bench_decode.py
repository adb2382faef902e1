"""Processor time per action of spin-decode in K passes against the factored policy, ten observations at once."""

import time
from collections.abc import Callable

import torch
from harness import paired, show
from learner import CPU, SHAPES

from spin_rl.algorithms.evaluation.batch_policy import ActingPolicy
from spin_rl.algorithms.methods import get_method
from spin_rl.algorithms.presets import get_preset

BATCH = 10


def timer(method: str, task: str, calls: int, **network: object) -> Callable[[], float]:
    """What measures the processor seconds per action of a policy that was never trained: it costs as much."""
    size, nvec = SHAPES[task]
    policy = ActingPolicy(get_method(method).build(size, nvec, get_preset("paper", **network)), CPU, sample=True)
    observation = torch.randn(BATCH, size).numpy()
    uniforms = torch.rand(BATCH, policy.draws, dtype=torch.float64).numpy()

    def measure() -> float:
        started = time.process_time()
        for _ in range(calls):
            policy.act(observation, uniforms)
        return (time.process_time() - started) / (calls * BATCH)

    return measure


def main() -> None:
    torch.set_num_threads(1)
    for task, (_, nvec) in SHAPES.items():
        factored = timer("factored", task, 100)
        for passes in sorted({1, 2, 4, min(8, len(nvec)), len(nvec)}):
            decoding = timer("spin-decode", task, max(1, 16 // passes), decode_passes=passes)
            ours, reference = paired(decoding, factored, rounds=3)
            show(
                f"{task}'s shapes (paper): microseconds per action, spin-decode with {passes} of {len(nvec)} passes "
                "against factored",
                1e6 * ours,
                1e6 * reference,
            )


if __name__ == "__main__":
    main()
