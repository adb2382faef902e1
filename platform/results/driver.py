"""The driver of a sweep: one process at a time runs it, and readers of its files can find out whether one does."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spin_rl.errors import UserError
from spin_rl.platform.common.leases import LASTS, Lease

_LEASE = ".driver"


@contextmanager
def drive(folder: Path) -> Iterator[None]:
    """Hold the lease on running the sweep in ``folder``; taken over from a process that died.

    Raises:
        UserError: another process runs it.
    """
    lease = Lease(folder / _LEASE)
    deadline = time.monotonic() + 1.5 * LASTS  # by then the lease of a dead process on another host has expired

    def is_in_use() -> bool:
        holder = lease.holder()
        # whether a process of this host is alive is known without waiting
        return time.monotonic() > deadline or (holder is not None and holder.host == socket.gethostname())

    if not lease.acquire(unless=is_in_use) and not lease.try_acquire():
        raise UserError(
            f"The sweep in {folder} is run by {lease.holder()}; wait until it is done, or stop that process."
        )
    with lease:
        yield


def is_interrupted(folder: Path) -> bool:
    """Whether the process that ran the sweep in ``folder`` is gone; False if there never was one."""
    lease = Lease(folder / _LEASE)
    return lease.was_taken() and not lease.is_held()
