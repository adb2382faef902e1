"""Leases: the exclusive right to change something in a shared folder, which expires if its holder dies.

Why not file locks: the folder lies on a file system that several hosts mount, and such a file system need not support
locks. All that a lease needs is that of several processes that create a file at once exactly one succeeds (O_EXCL), and
that a process that has changed a folder then sees everything created there before (NFS guarantees both from version 3
on; object stores mounted as folders guarantee neither).

    <place>-00000007     the holder: host, process, heartbeats; rewritten at every heartbeat

The file with the highest number is the lease. A process takes it by creating the next number. A file is written only by
the process that created it and deleted only once a higher one exists, so that a holder that was suspended and replaced
sees a higher number than its own and has to stop (``LeaseLostError``).

A lease may be taken once it was released, once its holder's process on this machine has ended, or once it has not been
renewed for ``lasts`` seconds by the clock of the waiting process: the clocks of hosts need not agree.
"""

import json
import logging
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

from spin_rl.platform.common.processes import birth_of, machine_id

logger = logging.getLogger(__name__)

LASTS = 30.0
"""Seconds without a heartbeat after which a holder on another machine is considered dead."""

_BEATS = 5  # heartbeats per ``lasts``
_SIZE = 512  # bytes of the file: a heartbeat overwrites in place and needs no space on a full disk
_LONGEST_PAUSE = 1.0
_FIELDS = {"host", "pid", "since", "lasts", "released", "birth", "machine"}


class LeaseLostError(Exception):
    """Another process holds the lease now: the work that it protected must stop."""


@dataclass(frozen=True)
class Holder:
    """The process that holds a lease, and the time in UTC since which it does."""

    host: str
    pid: int
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (since {self.since})"


class Lease:
    """The lease at ``place``, which this object can hold or wait for; a context manager that releases it on exit."""

    def __init__(self, place: Path, lasts: float | None = None) -> None:
        """
        Args:
            place: prefix of its files' paths; the folder must exist.
            lasts: seconds without a heartbeat after which others may take it; ``LASTS`` by default.
        """
        self.place, self.lasts = place, LASTS if lasts is None else lasts
        self._record: dict[str, Any] = {}
        self._number = 0
        self._file: int | None = None
        self._over = threading.Event()
        self._heart: threading.Thread | None = None
        self._watched: tuple[int, bytes] | None = None
        self._watched_since = 0.0

    def acquire(self, unless: Callable[[], bool] | None = None) -> bool:
        """Wait until the lease is held; False as soon as ``unless`` returns True, because it is no longer needed."""
        pause, said = 0.02, False
        while not (unless and unless()):
            if self.try_acquire():
                return True
            if not said and (holder := self.holder()):
                logger.warning("Waiting for %s, which holds %s.", holder, self.place)
                said = True
            time.sleep(pause)
            pause = min(_LONGEST_PAUSE, self.lasts / 4, 1.5 * pause)
        return False

    def try_acquire(self) -> bool:
        """Take the lease if it is free; a dead holder is only detected by repeated calls over ``lasts`` seconds."""
        latest = self._latest()
        return (latest == 0 or self._is_free(latest)) and self._create(latest + 1)

    def holder(self) -> Holder | None:
        """The process that holds the lease; None if it is free."""
        record = _parse(self._read(self._latest()))
        if record is None or record["released"]:
            return None
        return Holder(record["host"], record["pid"], record["since"])

    def was_taken(self) -> bool:
        """Whether the lease was ever held."""
        return self._latest() > 0

    def is_held(self) -> bool:
        """Whether the lease is held, as far as a single look can tell.

        A holder on this machine is alive if its process is; one elsewhere if it wrote its file within four times
        ``lasts``, because clocks may differ.
        """
        latest = self._latest()
        record = _parse(self._read(latest))
        if record is None or record["released"]:
            return False
        if record["machine"] == machine_id():
            return birth_of(record["pid"]) == record["birth"]
        return time.time() - self._path(latest).stat().st_mtime < 4 * record["lasts"]

    def check(self) -> None:
        """Verify in the storage that the lease is still held; call this right before changing what it protects.

        Raises:
            LeaseLostError: it is not held, or that cannot be determined.
        """
        try:
            held = self._file is not None and self._freshly_latest() == self._number
        except OSError as error:
            raise LeaseLostError(f"Cannot determine whether {self.place} is still held ({error}).") from error
        if not held:
            raise LeaseLostError(f"{self.place} was taken over by {self.holder() or 'another process'}.")

    def release(self) -> None:
        """Let the next process take it."""
        if self._file is None:
            return
        self._over.set()
        if self._heart:
            self._heart.join()
        self._record["released"] = True
        with suppress(OSError):  # then it expires
            self._write()
        os.close(self._file)
        self._file = None

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _path(self, number: int) -> Path:
        return self.place.with_name(f"{self.place.name}-{number:08d}")

    def _numbers(self) -> list[int]:
        name = re.compile(re.escape(self.place.name) + r"-(\d{8})")
        return [int(found[1]) for file in self.place.parent.iterdir() if (found := name.fullmatch(file.name))]

    def _latest(self) -> int:
        return max(self._numbers(), default=0)

    def _freshly_latest(self) -> int:
        """As ``_latest``, but current: an NFS client may list a folder from a cache that is half a minute old.

        Changing the folder makes the client ask the server, and drop the cache if others changed it.
        """
        probe = self.place.with_name(f"{self.place.name}-{self._record['owner']}")
        with suppress(OSError):  # full disk; a deleted folder fails in the next line
            os.close(os.open(probe, os.O_CREAT | os.O_WRONLY, 0o644))
            probe.unlink()
        return self._latest()

    def _read(self, number: int) -> bytes:
        try:
            return self._path(number).read_bytes()
        except FileNotFoundError:  # replaced by a higher number, or there is none
            return b""

    def _is_free(self, number: int) -> bool:
        content = self._read(number)
        record = _parse(content)
        if record and record["released"]:
            return True
        if record and record["machine"] == machine_id() and birth_of(record["pid"]) != record["birth"]:
            logger.warning("Taking over %s: process %d, which held it, has ended.", self.place, record["pid"])
            return True
        if (number, content) != self._watched:
            self._watched, self._watched_since = (number, content), time.monotonic()
            return False
        if time.monotonic() - self._watched_since <= (record["lasts"] if record else self.lasts):
            return False
        logger.warning("Taking over %s: %s has not renewed it.", self.place, self.holder() or "its holder")
        return True

    def _create(self, number: int) -> bool:
        path = self._path(number)
        try:
            self._file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            return False
        try:
            self._number = number
            self._record = {
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "owner": uuid.uuid4().hex,
                "since": datetime.now(UTC).isoformat(timespec="seconds"),
                "beat": 0,
                "lasts": self.lasts,
                "released": False,
                "birth": birth_of(os.getpid()),
                "machine": machine_id(),
            }
            self._write()
            numbers = self._numbers()
        except BaseException:
            self._give_up(path)
            raise
        if max(numbers) != number:  # others took and released it since its number was looked up
            self._give_up(path)
            return False
        for lower in numbers:
            if lower < number:
                with suppress(OSError):
                    self._path(lower).unlink()
        self._over.clear()
        self._heart = threading.Thread(target=self._beat, name=f"lease {self.place}", daemon=True)
        self._heart.start()
        return True

    def _give_up(self, path: Path) -> None:
        assert self._file is not None
        os.close(self._file)
        self._file = None
        path.unlink(missing_ok=True)

    def _write(self) -> None:
        # Through the handle of the file that this process created: its name may belong to another by now.
        assert self._file is not None
        os.pwrite(self._file, json.dumps(self._record).encode().ljust(_SIZE), 0)
        os.fsync(self._file)

    def _beat(self) -> None:
        while not self._over.wait(self.lasts / _BEATS):
            self._record["beat"] += 1
            try:
                self._write()
            except OSError as error:  # `check` decides whether it is lost
                logger.warning("%s could not be renewed (%s).", self.place, error)


def _parse(content: bytes) -> dict[str, Any] | None:
    """The record in a lease's file; None if it is half written."""
    try:
        record = json.loads(content)
    except ValueError:
        return None
    complete = isinstance(record, dict) and set(record) >= _FIELDS
    return record if complete else None
