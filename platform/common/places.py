"""Where things lie: a folder of this machine, or any fsspec location."""

from pathlib import Path


def is_remote(location: str) -> bool:
    """Whether ``location`` is no folder but a place such as ``s3://bucket/folder``."""
    return "://" in location and not location.startswith("file://")


def is_absolute(location: str) -> bool:
    """Whether ``location`` means the same wherever a command starts."""
    return is_remote(location) or Path(location.removeprefix("file://")).is_absolute()
