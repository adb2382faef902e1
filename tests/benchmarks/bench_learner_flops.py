"""FLOP/s of a SPIN update at the paper's size against a large matrix product's; bfloat16; oneDNN. One thread."""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from harness import paired, show
from learner import make_agent, make_spec, random_batch, update_timer
from torch.utils.flop_counter import FlopCounterMode

from spin_rl.algorithms.networks.precision import matrix_products, onednn_keeps_float32
from spin_rl.algorithms.training.agent import AgentSpec

SIZE = 1024
UPDATES = 3


def peak(dtype: torch.dtype) -> float:
    """FLOP/s of a product of two large matrices."""
    a, b = (torch.randn(SIZE, SIZE, dtype=dtype) for _ in range(2))
    a @ b
    seconds = []
    for _ in range(5):
        started = time.process_time()
        for _ in range(8):
            a @ b
        seconds.append((time.process_time() - started) / 8)
    return 2 * SIZE**3 / median(seconds)


def flops(spec: AgentSpec) -> int:
    """Floating-point operations of the matrix products and the attention of one update."""
    agent, batch = make_agent(spec), random_batch(spec)
    with FlopCounterMode(display=False) as counter:
        agent.objective.update(batch)
    return int(counter.get_total_flops())


def with_onednn(measure: Callable[[], float]) -> Callable[[], float]:
    def measured() -> float:
        with matrix_products("float32", onednn=True):
            return measure()

    return measured


def main() -> None:
    torch.set_num_threads(1)
    units = [flag for flag in ("avx512f", "avx512_bf16", "amx_bf16") if flag in Path("/proc/cpuinfo").read_text()]
    print(f"this processor has {', '.join(units) or 'none of AVX-512, its bfloat16 and AMX'}")
    highest, rough_peak = peak(torch.float32), peak(torch.bfloat16)
    print(f"matrix product of {SIZE}^3: {highest / 1e9:.0f} GFLOP/s in float32, {rough_peak / 1e9:.0f} in bfloat16")
    for task, updates in (("cheetah-run", UPDATES), ("dog-trot", 1)):
        spec = make_spec("spin", "paper", task)
        work = flops(spec)
        exact, rough = (
            update_timer(spec, updates),
            update_timer(make_spec("spin", "paper", task, precision="bfloat16"), updates),
        )
        single, half = paired(exact, rough, rounds=3)
        show(
            f"GFLOP/s of a SPIN update ({work / 1e9:.1f} GFLOP, paper, {task}'s shapes) against a matrix product",
            work / single / 1e9,
            highest / 1e9,
            aim=0.6,
        )
        show(f"updates/s in bfloat16 against float32 (SPIN, paper, {task})", 1 / half, 1 / single, aim=1.5)
    noiseless = update_timer(make_spec("spin", "paper", "cheetah-run", trunk_dropout=False), UPDATES)
    seconds, single = paired(noiseless, update_timer(make_spec("spin", "paper", "cheetah-run"), UPDATES), rounds=3)
    show(
        "updates/s without dropout in the frozen trunk against with it (SPIN, paper, cheetah-run)",
        1 / seconds,
        1 / single,
    )
    if onednn_keeps_float32():
        with matrix_products("float32", onednn=True):
            print(f"the matrix product with onednn: {peak(torch.float32) / 1e9:.0f} GFLOP/s in float32")
        for method, preset, task, updates in (
            ("factored", "small", "cheetah-run", 30),
            ("spin", "small", "cheetah-run", 10),
            ("spin-cached", "small", "cheetah-run", 30),
            ("spin", "paper", "cheetah-run", UPDATES),
            ("spin", "paper", "dog-trot", 1),
        ):
            measure = update_timer(make_spec(method, preset, task), updates)
            fast, plain = paired(with_onednn(measure), measure, rounds=3)
            show(f"float32 updates/s with onednn against without ({method}, {preset}, {task})", 1 / fast, 1 / plain)


if __name__ == "__main__":
    main()
