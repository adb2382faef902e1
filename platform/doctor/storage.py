"""Storage for results and datasets: whether it is writable, and its free space."""

import errno
import shutil
import tempfile
import uuid
from pathlib import Path

import fsspec

from spin_rl.platform.common.findings import Finding, State, first_line
from spin_rl.platform.common.places import is_remote

_GIB = 2**30


def check_disk(subject: str, location: str) -> Finding:
    """Free space at ``location``, which need not exist yet."""
    option = subject.split(":")[0]
    if is_remote(location):
        return Finding(f"{subject}: space", State.OK, f"{location} is not on this machine")
    return judge_space(
        f"{subject}: space", location, shutil.disk_usage(nearest_folder(location)).free / _GIB, f"--{option}"
    )


def judge_space(subject: str, location: str, free: float, option: str) -> Finding:
    """Rate ``free`` GiB of space for ``location``."""
    text = f"{free:.1f} GiB free for {location}"
    fix = f"free some, or name another place with {option}"
    if free < 1:
        return Finding(subject, State.PROBLEM, text, fix)
    return Finding(subject, State.WARNING, text, fix) if free < 5 else Finding(subject, State.OK, text)


def check_writable(subject: str, location: str) -> Finding:
    """Whether a small file can be written at ``location``, which need not exist yet, and deleted again."""
    try:
        if is_remote(location):
            filesystem, folder = fsspec.core.url_to_fs(location)
            probe = f"{folder.rstrip('/')}/.spin-rl-doctor-{uuid.uuid4().hex}"
            filesystem.pipe_file(probe, b"probe")
            filesystem.rm_file(probe)
        else:
            with tempfile.TemporaryFile(dir=nearest_folder(location)) as file:
                file.write(b"probe")
                file.flush()  # a full disk fails only here
    except Exception as error:  # each file system has its own error types
        return Finding(subject, State.PROBLEM, *why_not_written(location, error, f"--{subject}"))
    return Finding(subject, State.OK, f"{location} can be written")


def why_not_written(location: str, error: BaseException, option: str) -> tuple[str, str]:
    """What is wrong with a location that raised ``error``, and the fix."""
    kind = getattr(error, "errno", None)
    if kind in (errno.ENOSPC, errno.EDQUOT):
        return f"{location} is full", f"free some space there, or name another place with {option}"
    if kind == errno.EROFS:
        return f"{location} is read-only", f"mount it for writing, or name another place with {option}"
    return (
        f"{location} cannot be written: {first_line(error)}",
        f"grant write access and credentials, or name another place with {option}",
    )


def nearest_folder(location: str) -> Path:
    """The folder itself or, if it does not exist yet, its nearest parent that does."""
    path = Path(location.removeprefix("file://")).absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())
