"""Places for results and datasets: whether they can be written, and the space that they have."""

import errno
import shutil
import tempfile
import uuid
from pathlib import Path

from spin_rl.platform.common.findings import Finding, State, first_line
from spin_rl.platform.common.places import is_remote

_GIB = 2**30


def check_disk(subject: str, location: str) -> Finding:
    """Free space where ``location`` lies or will lie."""
    option = subject.split(":")[0]
    if is_remote(location):
        return Finding(f"{subject}: space", State.OK, f"{location} is not on this machine")
    return judge_space(
        f"{subject}: space", location, shutil.disk_usage(nearest_folder(location)).free / _GIB, f"--{option}"
    )


def judge_space(subject: str, location: str, free: float, option: str) -> Finding:
    """What ``free`` GiB for ``location`` mean."""
    text = f"{free:.1f} GiB free for {location}"
    mend = f"free some, or name another place with {option}"
    if free < 1:
        return Finding(subject, State.PROBLEM, text, mend)
    return Finding(subject, State.WARNING, text, mend) if free < 5 else Finding(subject, State.OK, text)


def check_writable(subject: str, location: str) -> Finding:
    """A small file can be written where ``location`` lies or will lie, and deleted again."""
    try:
        if is_remote(location):
            import fsspec

            filesystem, folder = fsspec.core.url_to_fs(location)
            probe = f"{folder.rstrip('/')}/.spin-rl-doctor-{uuid.uuid4().hex}"
            filesystem.pipe_file(probe, b"probe")
            filesystem.rm_file(probe)
        else:
            with tempfile.TemporaryFile(dir=nearest_folder(location)) as file:
                file.write(b"probe")
                file.flush()  # a full disk says so only now
    except Exception as error:  # every file system has errors of its own
        return Finding(subject, State.PROBLEM, *why_not_written(location, error, f"--{subject}"))
    return Finding(subject, State.OK, f"{location} can be written")


def why_not_written(location: str, error: BaseException, option: str) -> tuple[str, str]:
    """What is wrong with a place that ``error`` came from, and the mend."""
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
    """The folder itself or, where it is not made yet, the nearest parent that is there."""
    path = Path(location.removeprefix("file://")).absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())
