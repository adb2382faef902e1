"""A Ray session for one command: the cluster that RAY_ADDRESS names, or a local Ray that ends with the command.

Importing this module sets the environment variables that Ray reads while it is imported; it does not import Ray.
"""

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from spin_rl.errors import UserError
from spin_rl.platform.common.findings import Finding, State, first_line

logger = logging.getLogger(__name__)

START_LIMIT = "SPIN_RL_RAY_START_SECONDS"
"""The variable that limits the seconds in which a local Ray starts, over all attempts."""

_GCS_LIMIT = "RAY_gcs_server_port_wait_time_s"  # Ray's limits in an attempt, on its control store and on its node
_NODE_LIMIT = "RAY_raylet_start_wait_time_s"
_ATTEMPT = 60  # seconds; Ray's own 30 are too few for a busy machine

if "ray" not in sys.modules:  # set afterwards, they would reach Ray's processes but not this one
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # a session always has its token, whatever the version's default
    os.environ.setdefault(_NODE_LIMIT, str(_ATTEMPT))
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Tune's newer output prints its tables even at verbosity 0; we show progress ourselves.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")

_TIMEOUT = 5.0  # seconds for the head of a cluster to answer
_NOTICE = 20.0  # seconds of starting before each "still waiting" message
_QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}


@contextmanager
def ray_session(cpus: int | None = None) -> Iterator[None]:
    """Connect to ``RAY_ADDRESS`` if it is set; otherwise run Ray on this machine for the duration of the context.

    A session that is already running is used as it is and left running.

    Args:
        cpus: CPUs of a local session; by default all of the machine's.

    Raises:
        UserError: the cluster cannot be reached, or Ray does not start within its limit.
    """
    ray = _ray()
    if ray.is_initialized():
        yield
        return
    if address := os.environ.get("RAY_ADDRESS"):
        if problem := connect(address):
            raise problem.error()
    else:
        _start(cpus or os.cpu_count() or 1)
    try:
        yield
    finally:
        ray.shutdown()


def _ray() -> Any:
    import ray  # most commands import this module for its settings and need no Ray

    return ray


def connect(address: str | None) -> Finding | None:
    """Connect to a running cluster; returns the problem if that fails.

    Args:
        address: ``host:6379``, or ``auto`` or None on a machine of the cluster itself.
    """
    host, _, port = (address or "").rpartition(":")
    try:
        if host and port.isdigit() and "://" not in host:  # Ray itself would try for a quarter of an hour
            socket.create_connection((host.strip("[]"), int(port)), timeout=_TIMEOUT).close()
        _ray().init(address=address, **_QUIET)
    except Exception as error:  # Ray has no common class for them
        return _connection_problem(error)
    return None


def _connection_problem(error: BaseException) -> Finding:
    text = str(error).strip()
    if "ersion mismatch" in text:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        fix = "use the cluster's versions here, or its image"
        return Finding("Ray versions", State.PROBLEM, " ".join(lines[:5]), fix)
    if "uthentication" in text or "nauthorized" in text or "token" in text.lower():
        fix = "set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, to the token that the cluster was started with"
        return Finding("Ray", State.PROBLEM, f"the cluster refuses us: {first_line(error)}", fix)
    fix = "start the cluster (ray start --head), or correct the address: host:6379"
    return Finding("Ray", State.PROBLEM, f"the cluster does not answer: {first_line(error)}", fix)


def _start(cpus: int) -> None:
    """Start Ray on this machine.

    Attempts that time out are repeated: a node ends itself, and its start with it, if one of its agents takes more than
    15 seconds, which no setting changes (ray#65983).

    Raises:
        UserError: Ray does not start within its limit, or fails in another way.
    """
    limit, began = float(os.environ.get(START_LIMIT, "300")), time.monotonic()
    with _notices():
        while (error := _attempt(cpus, limit)) is not None:
            reason = first_line(error).partition(". ")[0].rstrip(".")
            if "timed out" in reason.lower() and time.monotonic() - began < limit:
                logger.warning("Ray did not start (%s); trying again.", reason)
                continue
            raise UserError(
                f"Ray did not start on this machine ({reason}): stop other work or free memory and try again, or allow "
                f"it more than {limit:.0f} s with {START_LIMIT}; its logs are in /tmp/ray/session_latest/logs."
            ) from error


def _attempt(cpus: int, limit: float) -> Exception | None:
    """Try to start Ray once; ends the processes of an attempt that failed and returns its error."""
    before = set(_children())
    # Set only here: it also counts the attempts at connecting to a cluster, which should give up sooner.
    gcs_limit = os.environ.get(_GCS_LIMIT)
    os.environ.setdefault(_GCS_LIMIT, str(int(min(limit, _ATTEMPT))))
    try:
        _ray().init(address="local", num_cpus=cpus, include_dashboard=False, **_QUIET)
    except BaseException as error:
        # Ray forgets the processes of a node that did not come up: ray.shutdown() would leave them running.
        _end([process for process in _children() if process not in before])
        if isinstance(error, Exception):
            return error
        raise
    finally:
        if gcs_limit is None:
            del os.environ[_GCS_LIMIT]
    return None


@contextmanager
def _notices() -> Iterator[None]:
    """Log now and then that Ray is still starting."""
    started = threading.Event()

    def notify() -> None:
        waited = 0.0
        while not started.wait(_NOTICE):
            waited += _NOTICE
            logger.warning("Ray is starting; still waiting after %.0f s (the machine is busy).", waited)

    thread = threading.Thread(target=notify, name="Ray is starting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        started.set()
        thread.join()


def _children() -> list[psutil.Process]:
    """Ray's processes below this one."""
    folder = str(Path(_ray().__file__).parent)
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # ended meanwhile
            if any(folder in word for word in process.cmdline()):
                found.append(process)
    return found


def _end(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=10)
