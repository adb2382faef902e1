"""The location of datasets: ``<root>/<task>-<bins>/<level>-v<n>/``, under any fsspec location."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from spin_rl.envs.catalogue import BINS, get_task
from spin_rl.errors import UserError
from spin_rl.platform.common.leases import Lease, LeaseLostError
from spin_rl.platform.datasets.levels import check_level
from spin_rl.platform.datasets.metadata import DatasetMetadata


def default_root() -> str:
    """``SPIN_RL_DATA`` if it is set, otherwise ``./data``."""
    return os.environ.get("SPIN_RL_DATA") or "data"


def absolute_root(location: str | Path) -> str:
    """``location`` as an absolute path, for processes that start in other folders; a URL is not changed."""
    return str(location) if "://" in str(location) else str(Path(location).absolute())


class DatasetRoot:
    """A location that holds datasets: a local folder or any other fsspec location.

    Raises:
        UserError: not a location that fsspec knows.
    """

    def __init__(self, location: str | Path | None = None) -> None:
        self.location = str(location or default_root()).rstrip("/")
        try:
            filesystem, path = fsspec.core.url_to_fs(self.location)
        except (ImportError, ValueError) as error:
            raise UserError(f"{self.location} is not a valid location for datasets: {error}") from error
        self.filesystem: Any = filesystem
        self.path = str(path)

    @property
    def local(self) -> Path | None:
        """The folder, if the root is a local one; otherwise None."""
        return Path(self.path) if isinstance(self.filesystem, LocalFileSystem) else None

    @property
    def scratch(self) -> Path:
        """Folder on this machine for derived and unfinished files: ``SPIN_RL_CACHE``, or beside the datasets."""
        if cache := os.environ.get("SPIN_RL_CACHE"):
            return Path(cache)
        return self.local / ".cache" if self.local else Path.home() / ".cache" / "spin-rl"

    def folder(self, key: str) -> str:
        """Path of a dataset's folder on the file system."""
        return f"{self.path}/{key}"

    def read_metadata(self, key: str) -> DatasetMetadata | None:
        """Metadata of the dataset ``<task>-<bins>/<level>-v<n>``; None if there is none.

        Raises:
            UserError: it is damaged, or describes another dataset than the folder's name.
        """
        where = f"{self.location}/{key}/metadata.json"
        try:
            text = self.filesystem.cat_file(f"{self.folder(key)}/metadata.json").decode("utf-8", "replace")
        except (FileNotFoundError, NotADirectoryError):
            return None
        metadata = DatasetMetadata.from_json(text, where)
        if metadata.key != key:
            raise UserError(
                f"{where} describes {metadata.key}: the folder was renamed or copied; restore its original name."
            )
        return metadata

    def versions(self, task: str, bins: int, level: str) -> list[int]:
        """Versions of a level that exist as complete datasets, oldest first."""
        pattern = re.compile(re.escape(level) + r"-v([1-9]\d*)")
        found = [pattern.fullmatch(name) for name in self._names(f"{self.path}/{task}-{bins}")]
        numbers = sorted(int(match[1]) for match in found if match)
        return [
            n for n in numbers if self.filesystem.exists(f"{self.folder(f'{task}-{bins}/{level}-v{n}')}/metadata.json")
        ]

    def datasets(self) -> list[DatasetMetadata]:
        """All datasets, sorted by name."""
        keys = [
            f"{task}/{name}"
            for task in self._names(self.path)
            if re.fullmatch(r"[^.].*-\d+", task)
            for name in self._names(f"{self.path}/{task}")
            if re.fullmatch(r"[^.].*-v\d+", name)
        ]
        return [metadata for key in sorted(keys) if (metadata := self.read_metadata(key))]

    def publish(self, built: Path, key: str) -> None:
        """Turn a folder that was built on this machine into a dataset of this root, in one atomic step.

        In a local root the folder is renamed. Elsewhere the parts are copied first and the metadata, which makes the
        folder a dataset, last.
        """
        if self.local:
            target = Path(self.folder(key))
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():  # without metadata, or it would count as a version
                shutil.rmtree(target)
            built.rename(target)
            return
        self.filesystem.makedirs(self.folder(key), exist_ok=True)
        for path in sorted(built.iterdir(), key=lambda path: path.name == "metadata.json"):
            self.filesystem.put_file(str(path), f"{self.folder(key)}/{path.name}")
        shutil.rmtree(built)

    def _names(self, folder: str) -> list[str]:
        try:
            return [str(path).rstrip("/").rsplit("/", 1)[-1] for path in self.filesystem.ls(folder, detail=False)]
        except (FileNotFoundError, NotADirectoryError):
            return []


@contextmanager
def exclusive(place: Path) -> Iterator[Lease]:
    """Wait for the lease at ``place`` and hold it, so that only one process on any machine works there at a time.

    Raises:
        UserError: the lease was lost because this process was suspended for too long; ``Lease.check`` notices it.
    """
    lease = Lease(place)
    lease.acquire()
    try:
        with lease:
            yield lease
    except LeaseLostError as error:
        raise UserError(f"Another process took over this one's work: {error} Run the command again.") from error


def list_datasets(root: str | Path | None = None) -> list[DatasetMetadata]:
    """Every dataset under ``root``."""
    return DatasetRoot(root).datasets()


def find_metadata(
    task: str, level: str, *, bins: int = BINS, root: str | Path | None = None, version: int | None = None
) -> DatasetMetadata:
    """Metadata of a dataset, by default of its newest version.

    Raises:
        UserError: unknown task or level, or a dataset not made yet; the message gives the command that makes it.
    """
    place = DatasetRoot(root)
    versions = place.versions(task, bins, level)
    if versions and version in (None, *versions):
        metadata = place.read_metadata(f"{task}-{bins}/{level}-v{version or versions[-1]}")
        if metadata:
            return metadata
    if versions:
        raise UserError(f"{task}-{bins}/{level} has no version {version} in {place.location}, only {versions}.")
    get_task(task, bins)
    check_level(level)
    option = "" if bins == BINS else f" --bins {bins}"
    raise UserError(
        f"There is no dataset {task}-{bins}/{level} in {place.location}; make it with: "
        f"spin-rl data make {task} {level}{option}"
    )
