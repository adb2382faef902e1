"""Leases: the right to change what lies in a shared folder, held by one process at a time and lost with its life.

For folders on a file system that several hosts mount and that need not offer locks. All that is asked of it: a file is
created by one of those who try at once (O_EXCL), and whoever has changed a folder sees all that was created there
before (NFS gives both from version 3 on). Object stores mounted as folders give neither.

    <place>-00000007     who holds the lease: host, process, heartbeats; written anew at every heartbeat

The file with the highest number is the lease. To take it is to create the next number, which one process succeeds in.
A file is only written by the process that created it and only deleted once there is a higher one, so that a holder who
was suspended and replaced sees a higher number than its own: it has to stop (``LeaseLostError``).

A lease may be taken once it was released, once its holder's process is gone from this machine, or once it has not been
renewed for ``lasts`` seconds of whoever waits: the clocks of hosts need not agree.
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
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

logger = logging.getLogger(__name__)

LASTS = 30.0
"""Seconds without a heartbeat after which a holder on another machine counts as dead."""

_BEATS = 5  # in the time that a lease lasts
_SIZE = 512  # of the file: a heartbeat changes bytes in their place and never needs space on a full disk
_LONGEST_PAUSE = 1.0
_FIELDS = {"host", "pid", "since", "lasts", "released", "birth", "machine"}


class LeaseLostError(Exception):
    """Somebody else holds the lease by now: whatever it allowed has to stop."""


@dataclass(frozen=True)
class Holder:
    """The process that holds a lease, and the time in UTC since which it does."""

    host: str
    pid: int
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (since {self.since})"


class Lease:
    """The lease at ``place``, held or waited for by this object; a context manager that releases it at the end."""

    def __init__(self, place: Path, lasts: float | None = None) -> None:
        """
        Args:
            place: path that its files' names begin with; the folder has to exist.
            lasts: seconds without a heartbeat after which it may be taken from this holder; ``LASTS`` by default.
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
        """Wait until the lease is held; False as soon as ``unless`` says that there is no need for it any more."""
        pause, said = 0.02, False
        while not (unless and unless()):
            if self.try_acquire():
                return True
            if not said and (holder := self.holder()):
                logger.warning("Waiting for %s, who holds %s.", holder, self.place)
                said = True
            time.sleep(pause)
            pause = min(_LONGEST_PAUSE, self.lasts / 4, 1.5 * pause)
        return False

    def try_acquire(self) -> bool:
        """Take the lease if it is free; to find out that a holder is dead takes calls over the time it lasts."""
        latest = self._latest()
        return (latest == 0 or self._is_free(latest)) and self._create(latest + 1)

    def holder(self) -> Holder | None:
        """Who holds the lease; None where it is free."""
        record = _parse(self._read(self._latest()))
        if record is None or record["released"]:
            return None
        return Holder(record["host"], record["pid"], record["since"])

    def was_taken(self) -> bool:
        """Whether anybody ever held the lease."""
        return self._latest() > 0

    def is_held(self) -> bool:
        """Whether somebody holds the lease, as far as one look tells.

        A holder on this machine lives where its process does; one elsewhere where it wrote its file in four times the
        time that the lease lasts, as clocks may differ.
        """
        latest = self._latest()
        record = _parse(self._read(latest))
        if record is None or record["released"]:
            return False
        if record["machine"] == _machine():
            return _birth(record["pid"]) == record["birth"]
        return time.time() - self._path(latest).stat().st_mtime < 4 * record["lasts"]

    def check(self) -> None:
        """Ask the storage whether the lease is still held: to be called right before what only its holder may do.

        Raises:
            LeaseLostError: it is not, or nobody can tell.
        """
        try:
            held = self._file is not None and self._freshly_latest() == self._number
        except OSError as error:
            raise LeaseLostError(f"Whether {self.place} is still held cannot be told ({error}).") from error
        if not held:
            raise LeaseLostError(f"{self.place} was taken over by {self.holder() or 'somebody'}.")

    def release(self) -> None:
        """Let the next one have it."""
        if self._file is None:
            return
        self._over.set()
        if self._heart:
            self._heart.join()
        self._record["released"] = True
        with suppress(OSError):  # then it is over when it has lasted
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
        """As ``_latest``, of now: a client of a network file system may list a folder as it was half a minute ago.

        Where it changes the folder itself it learns from the server that somebody else did, and looks again.
        """
        probe = self.place.with_name(f"{self.place.name}-{self._record['owner']}")
        with suppress(OSError):  # on a full disk; a folder that is gone is found next
            os.close(os.open(probe, os.O_CREAT | os.O_WRONLY, 0o644))
            probe.unlink()
        return self._latest()

    def _read(self, number: int) -> bytes:
        try:
            return self._path(number).read_bytes()
        except FileNotFoundError:  # there is a higher one by now, or none at all
            return b""

    def _is_free(self, number: int) -> bool:
        content = self._read(number)
        record = _parse(content)
        if record and record["released"]:
            return True
        if record and record["machine"] == _machine() and _birth(record["pid"]) != record["birth"]:
            logger.warning("Taking over %s: process %d, who held it, is gone.", self.place, record["pid"])
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
                "birth": _birth(os.getpid()),
                "machine": _machine(),
            }
            self._write()
            numbers = self._numbers()
        except BaseException:
            self._give_up(path)
            raise
        if max(numbers) != number:  # others took, released and took it again since its number was looked up
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
        # through the handle of the file that was created, not by its name: that may be another's by now
        assert self._file is not None
        os.pwrite(self._file, json.dumps(self._record).encode().ljust(_SIZE), 0)
        os.fsync(self._file)

    def _beat(self) -> None:
        while not self._over.wait(self.lasts / _BEATS):
            self._record["beat"] += 1
            try:
                self._write()
            except OSError as error:  # `check` finds out what became of it
                logger.warning("%s could not be renewed (%s).", self.place, error)


def _parse(content: bytes) -> dict[str, Any] | None:
    """What a lease's file says; None where it is half-written, which its watcher treats as any other."""
    try:
        record = json.loads(content)
    except ValueError:
        return None
    whole = isinstance(record, dict) and set(record) >= _FIELDS
    return record if whole else None


@cache
def _machine() -> str:
    """What process numbers are unique in: a host since it started, and there a namespace (a container has its own)."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)


def _birth(pid: int) -> str | None:
    """When a process of this machine began, in clock ticks since the start: its number may be another's later.

    Empty where the system does not tell, None where there is no such process, or one that is dead and not buried.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "" if psutil.pid_exists(pid) and not Path("/proc/self/stat").exists() else None
    return None if fields[0] in "ZX" else fields[19]
