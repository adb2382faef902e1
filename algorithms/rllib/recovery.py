"""Which checkpoint of a trial is whole, and which is its last: what a sweep goes on from when its driver was killed."""

import json
from collections.abc import Mapping
from pathlib import Path

from pyarrow.fs import FileSelector, FileSystem, FileType

RECORD = "progress.json"
"""Written last into a checkpoint; names the sizes of the other files."""


def sizes_of(folder: Path) -> Mapping[str, int]:
    """Bytes of every file of a checkpoint but its record."""
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.name != RECORD}


def last_whole_checkpoint(filesystem: FileSystem, trial: str) -> str | None:
    """The newest whole ``checkpoint_*`` in a trial's folder, or None."""
    entries = filesystem.get_file_info(FileSelector(trial, allow_not_found=True))
    folders = [entry.path for entry in entries if entry.type == FileType.Directory and "checkpoint_" in entry.base_name]
    return next((folder for folder in sorted(folders, reverse=True) if _is_whole(filesystem, folder)), None)


def _is_whole(filesystem: FileSystem, folder: str) -> bool:
    """Whether a checkpoint's record is there and its files have the sizes that it names: copying may have been cut."""
    try:
        with filesystem.open_input_stream(f"{folder}/{RECORD}") as file:
            sizes: Mapping[str, int] = json.loads(file.read())["sizes"]
    except (OSError, ValueError, KeyError):
        return False
    found = filesystem.get_file_info([f"{folder}/{name}" for name in sizes])
    return all(entry.size == size for entry, size in zip(found, sizes.values(), strict=True))
