"""What a trial's process takes of its machine, told by the process itself, on whatever node it runs."""

from functools import cache
from typing import Any

import psutil


def system_metrics(torch: Any) -> dict[str, float]:
    """Memory, processor time and threads of this process, and what it holds of its GPU where it has one.

    The processor's share is that since the last call, 100 a core. Takes ``torch``, which only the caller may have.
    """
    process = _this_process()
    with process.oneshot():
        metrics = {
            "memory_gib": process.memory_info().rss / 2**30,
            "cpu_percent": process.cpu_percent(),
            "threads": float(process.num_threads()),
        }
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        metrics["gpu_memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        metrics["gpu_memory_used_percent"] = 100 * (1 - free / total)
    return metrics


@cache
def _this_process() -> psutil.Process:
    return psutil.Process()  # kept: it remembers the processor time of the last call
