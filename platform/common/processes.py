"""Identity of a process: its machine, and when it was started, because process ids are reused."""

import socket
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil


@cache
def machine_id() -> str:
    """The scope in which process ids are unique: a host since it booted, and there a namespace (one per container)."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def birth_of(pid: int) -> str | None:
    """Start time of a process of this machine, in clock ticks since boot.

    Empty if the system does not say; None if there is no such process, or only a zombie.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "" if psutil.pid_exists(pid) and not Path("/proc/self/stat").exists() else None
    return None if fields[0] in "ZX" else fields[19]
