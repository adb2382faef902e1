"""Resource usage of a trial's process, measured by the process itself on the node where it runs."""

from functools import cache
from typing import Any

import psutil


def system_metrics(torch: Any) -> dict[str, float]:
    """Memory, CPU usage and threads of this process, and the memory that it uses of its GPU, if it has one.

    CPU usage covers the time since the last call, in percent of one core. ``torch`` is an argument because this module
    must be importable without it.
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
    return psutil.Process()  # kept: it remembers the CPU time of the last call
