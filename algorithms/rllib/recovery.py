"""Which checkpoint of a trial is whole, and which is its last: what a sweep resumes from after a kill."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from pyarrow.fs import FileSelector, FileSystem, FileType

RECORD = "progress.json"
"""Written last into a checkpoint; names the digests of the other files."""


def digests_of(folder: Path) -> dict[str, str]:
    """Digest of every file of a checkpoint but its record."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != RECORD]
    return {path.relative_to(folder).as_posix(): _digest(path.read_bytes()) for path in files}


def last_whole_checkpoint(filesystem: FileSystem, trial: str) -> str | None:
    """The whole ``checkpoint_*`` in a trial's folder that has the most updates, or None.

    Their numbers are no guide: Tune counts from 0 again where it lost its own record of the trial.
    """
    entries = filesystem.get_file_info(FileSelector(trial, allow_not_found=True))
    folders = [entry.path for entry in entries if entry.type == FileType.Directory and "checkpoint_" in entry.base_name]
    updates = {folder: _whole_updates(filesystem, folder) for folder in folders}
    return max((folder for folder in folders if updates[folder] >= 0), key=updates.__getitem__, default=None)


def _whole_updates(filesystem: FileSystem, folder: str) -> int:
    """Updates behind a checkpoint; -1 where it is not whole, because its writing or copying was interrupted."""
    try:
        record = json.loads(_read(filesystem, f"{folder}/{RECORD}"))
        files: Mapping[str, str] = record.get("files", {})
        if all(_digest(_read(filesystem, f"{folder}/{name}")) == digest for name, digest in files.items()):
            return int(record["updates"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    return -1


def _read(filesystem: FileSystem, path: str) -> bytes:
    with filesystem.open_input_stream(path) as file:
        content: bytes = file.readall()
    return content


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()
