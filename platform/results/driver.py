"""Who runs a sweep: one process at a time, and readers of the files can tell whether it lives."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spin_rl.errors import UserError
from spin_rl.platform.common.leases import LASTS, Lease

_PLACE = ".driver"


@contextmanager
def drive(folder: Path) -> Iterator[None]:
    """Hold the right to run the sweep in ``folder``; whoever had it and died is replaced.

    Raises:
        UserError: another process runs it.
    """
    lease = Lease(folder / _PLACE)
    until = time.monotonic() + 1.5 * LASTS  # by then a holder on another machine that died is replaced
    there = f" on {socket.gethostname()} "  # whether a process of this machine lives is known at once
    taken = lease.acquire(unless=lambda: time.monotonic() > until or there in f"{lease.holder() or ''} ")
    if not (taken or lease.try_acquire()):
        raise UserError(f"The sweep in {folder} is run by {lease.holder()}; wait for its end, or stop that one.")
    with lease:
        yield


def is_interrupted(folder: Path) -> bool:
    """Whether nobody runs the sweep in ``folder`` any more, as far as one look tells; False where nobody ever did."""
    lease = Lease(folder / _PLACE)
    return lease.was_taken() and not lease.is_held()
