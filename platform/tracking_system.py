"""What a trial's process takes of its machine."""

import os
from typing import Any

import psutil

_processes: dict[int, psutil.Process] = {}


def process_metrics(pid: int | None = None) -> dict[str, float]:
    """Memory and processor time of a process on this machine, this one by default; empty if it is gone.

    The processor's share is that since the last call for the process, 100 a core.
    """
    number = os.getpid() if pid is None else pid
    try:
        process = _processes.setdefault(number, psutil.Process(number))
        with process.oneshot():
            return {
                "system/memory_gib": process.memory_info().rss / 2**30,
                "system/cpu_percent": process.cpu_percent(),
                "system/threads": float(process.num_threads()),
            }
    except psutil.Error:
        _processes.pop(number, None)
        return {}


def gpu_metrics(torch: Any) -> dict[str, float]:
    """Memory that this process holds on its GPU; empty without one. Takes torch, which only the caller may have."""
    if not torch.cuda.is_available():
        return {}
    free, total = torch.cuda.mem_get_info()
    return {
        "system/gpu_memory_gib": torch.cuda.max_memory_allocated() / 2**30,
        "system/gpu_memory_used_percent": 100 * (1 - free / total),
    }
