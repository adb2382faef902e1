"""Opening a dataset: a memory-mapped Arrow copy, made and verified once per machine and shared by its processes."""

import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from spin_rl.envs.catalogue import BINS, nvec_of, tasks
from spin_rl.errors import UserError
from spin_rl.platform.common.leases import Lease
from spin_rl.platform.datasets.metadata import DatasetMetadata
from spin_rl.platform.datasets.parts import read_verified
from spin_rl.platform.datasets.rows import Rows
from spin_rl.platform.datasets.store import DatasetRoot, exclusive, find_metadata


class TransitionArrays(NamedTuple):
    """A batch of transitions from a dataset, as NumPy arrays."""

    observation: NDArray[np.float32]  # (B, S)
    action: NDArray[np.int16]  # (B, N)
    reward: NDArray[np.float32]  # (B,)
    next_observation: NDArray[np.float32]  # (B, S)
    terminated: NDArray[np.bool_]  # (B,)


@dataclass(frozen=True)
class OfflineDataset:
    """A dataset in read-only memory maps.

    Rows are observations; the transition at row k is (observations[k], actions[k], rewards[k], observations[k + 1],
    terminated[k]). An episode of T steps is T + 1 rows, and the last of them starts no transition:

        transitions   0  1  2     3  4        episode_offsets = [0, 3, 5]
        rows          0  1  2  3  4  5  6     transitions     = [0, 1, 2, 4, 5]
                      [ episode ] [ ep. ]
    """

    metadata: DatasetMetadata
    observations: NDArray[np.float32]  # (rows, S)
    actions: NDArray[np.int16]  # (rows, N)
    rewards: NDArray[np.float32]  # (rows,)
    terminated: NDArray[np.bool_]  # (rows,)
    transitions: NDArray[np.int32]  # (transitions,) row of each transition
    episode_offsets: NDArray[np.int64]  # (episodes + 1,) into transitions

    @property
    def meta(self) -> DatasetMetadata:
        return self.metadata

    def __len__(self) -> int:
        """Number of transitions."""
        return len(self.transitions)

    def batch(self, indices: NDArray[np.integer]) -> TransitionArrays:
        """The transitions with these numbers (B,), each in [0, transitions)."""
        rows = self.transitions.take(indices)  # take is twice as fast as indexing with an array
        return TransitionArrays(
            observation=self.observations.take(rows, axis=0),
            action=self.actions.take(rows, axis=0),
            reward=self.rewards.take(rows),
            next_observation=self.observations.take(rows + 1, axis=0),
            terminated=self.terminated.take(rows),
        )

    def starts(self) -> NDArray[np.int64]:
        """Rows (episodes + 1,) at which episodes start, and finally the number of rows."""
        return self.episode_offsets + np.arange(len(self.episode_offsets))  # transition t of episode e: row t + e

    def returns(self) -> NDArray[np.float64]:
        """Undiscounted returns (episodes,)."""
        # the row between two episodes has reward 0
        return np.add.reduceat(self.rewards, self.starts()[:-1], dtype=np.float64)


def open_dataset(
    task: str,
    level: str,
    *,
    bins: int = BINS,
    root: str | Path | None = None,
    version: int | None = None,
    on_rows: Callable[[int], None] | None = None,
) -> OfflineDataset:
    """Open a dataset for training.

    The first call on a machine verifies every value and writes the Arrow copy, under a lease; later ones only map it.

    Args:
        task: name of the task.
        level: name of the level.
        bins: choices per action dimension.
        root: location of datasets, a folder or any fsspec location; ``SPIN_RL_DATA`` or ``./data`` by default.
        version: the newest by default.
        on_rows: called with the number of rows just verified, if the copy has to be made.

    Raises:
        UserError: no such dataset (the message gives the command that makes it), or a damaged one (the message names
            the file and the row).
    """
    metadata = find_metadata(task, level, bins=bins, root=root, version=version)
    place = DatasetRoot(root)
    copy = _copy_folder(place, metadata)
    if not (copy / _READY).exists():
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            with exclusive(copy.parent / f".{metadata.digest}.lease") as lease:
                if not (copy / _READY).exists():
                    _make_copy(place, metadata, copy, on_rows, lease)
        except OSError as error:
            raise UserError(
                f"The Arrow copy {copy} cannot be written ({error.strerror or error}); free some space there, or "
                "choose another folder with SPIN_RL_CACHE."
            ) from error
    return _map_copy(metadata, copy)


def verify_dataset(metadata: DatasetMetadata, place: DatasetRoot, on_rows: Callable[[int], None] | None = None) -> None:
    """Read and check everything again, including this machine's Arrow copy, if there is one.

    Raises:
        UserError: something is damaged; the message names the file and the row.
    """
    check_spaces(metadata, f"{place.location}/{metadata.key}")
    copy = _copy_folder(place, metadata)
    mapped = _map_copy(metadata, copy) if (copy / _READY).exists() else None
    ends = _Ends(metadata.rows)
    first = 0
    for rows in _read(metadata, place, on_rows):
        ends.add(rows)
        here = slice(first, first + len(rows.step))
        if mapped and not all(
            np.array_equal(getattr(mapped, name)[here], getattr(rows, name))
            for name in ("observations", "actions", "rewards", "terminated")
        ):
            raise _damaged_copy(copy, f"steps.arrow, rows {first} to {here.stop - 1},")
        first = here.stop
    if mapped and not np.array_equal(mapped.transitions, ends.transitions()):
        raise _damaged_copy(copy, "transitions.arrow")
    if mapped and not np.array_equal(mapped.episode_offsets, ends.episode_offsets()):
        raise _damaged_copy(copy, "episodes.arrow")


def _copy_folder(place: DatasetRoot, metadata: DatasetMetadata) -> Path:
    folder: Path = place.scratch / "arrow" / metadata.digest
    return folder


def _damaged_copy(copy: Path, what: str) -> UserError:
    return UserError(f"{copy}/{what} is damaged; delete the folder {copy}, and it will be made again.")


class _Ends:
    """Where the episodes of a dataset end, collected from its parts in order."""

    def __init__(self, rows: int) -> None:
        self._is_last = np.ones(rows, bool)
        self._rows = 0

    def add(self, part: Rows) -> None:
        # the last row of a part also ends an episode
        self._is_last[self._rows : self._rows + len(part.step) - 1] = part.step[1:] == 0
        self._rows += len(part.step)

    def transitions(self) -> NDArray[np.int32]:
        return np.flatnonzero(~self._is_last).astype(np.int32)

    def episode_offsets(self) -> NDArray[np.int64]:
        ends = np.flatnonzero(self._is_last)
        return np.append(0, ends - np.arange(len(ends)))  # episode k is preceded by the ends of k others


def _read(metadata: DatasetMetadata, place: DatasetRoot, on_rows: Callable[[int], None] | None) -> Iterator[Rows]:
    folder = place.folder(metadata.key)
    return read_verified(
        metadata,
        lambda file: place.filesystem.open(f"{folder}/{file}", "rb"),
        f"{place.location}/{metadata.key}",
        on_rows,
    )


def check_spaces(metadata: DatasetMetadata, where: str) -> None:
    """Raises UserError if a dataset's spaces differ from those of its task; unknown tasks are not checked."""
    task = tasks().get((metadata.task, metadata.bins))
    if task is None:
        return
    env = task.make()
    try:
        space: Any = env.observation_space
        expected = (nvec_of(env), int(np.prod(space.shape)))
    finally:
        env.close()
    found = (metadata.nvec, metadata.observation_size)
    if found != expected:
        raise UserError(
            f"{where}/metadata.json has nvec {list(found[0])} and {found[1]} observations, but {task.key} has "
            f"nvec {list(expected[0])} and {expected[1]}: the dataset belongs to another task."
        )


_READY = "ready.json"
"""File with the sizes of a copy's files, written last."""


def _make_copy(
    place: DatasetRoot, metadata: DatasetMetadata, copy: Path, on_rows: Callable[[int], None] | None, lease: Lease
) -> None:
    """Verify the dataset and write its Arrow copy, under a lease."""
    check_spaces(metadata, f"{place.location}/{metadata.key}")
    rows, ends = metadata.rows, _Ends(metadata.rows)
    observations = np.empty((rows, metadata.observation_size), np.float32)
    actions = np.empty((rows, len(metadata.nvec)), np.int16)
    rewards, terminated = np.empty(rows, np.float32), np.empty(rows, np.uint8)
    first = 0
    for part in _read(metadata, place, on_rows):
        here = slice(first, first + len(part.step))
        observations[here], actions[here], rewards[here] = part.observations, part.actions, part.rewards
        terminated[here] = part.terminated
        ends.add(part)
        first = here.stop

    for leftover in copy.parent.glob(f"{copy.name}.*.new"):  # of a process that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    unfinished = copy.with_name(f"{copy.name}.{uuid.uuid4().hex}.new")
    unfinished.mkdir()
    try:
        _write_columns(
            unfinished / "steps.arrow",
            {"observations": observations, "actions": actions, "rewards": rewards, "terminated": terminated},
        )
        _write_columns(unfinished / "transitions.arrow", {"transitions": ends.transitions()})
        _write_columns(unfinished / "episodes.arrow", {"episode_offsets": ends.episode_offsets()})
        sizes = {path.name: path.stat().st_size for path in unfinished.iterdir()}
        ready = {"files": sizes, "rows": rows, "transitions": metadata.transitions}
        (unfinished / _READY).write_text(json.dumps(ready))
        lease.check()
        shutil.rmtree(copy, ignore_errors=True)  # an incomplete one
        unfinished.rename(copy)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _map_copy(metadata: DatasetMetadata, copy: Path) -> OfflineDataset:
    ready = json.loads((copy / _READY).read_text())
    for name, size in ready["files"].items():
        if not (copy / name).exists() or (copy / name).stat().st_size != size:
            raise _damaged_copy(copy, name)
    columns: dict[str, Any] = {}
    for name in ready["files"]:
        columns |= _map_columns(copy / name)
    columns["terminated"] = columns["terminated"].view(bool)
    return OfflineDataset(metadata, **columns)


def _write_columns(path: Path, columns: dict[str, NDArray[Any]]) -> None:
    """Write arrays (rows,) or (rows, width) as one Arrow record batch, so that each is contiguous in the file."""
    arrays = [
        pa.FixedSizeListArray.from_arrays(pa.array(array.ravel()), array.shape[1])
        if array.ndim == 2
        else pa.array(array)
        for array in columns.values()
    ]
    batch = pa.record_batch(arrays, names=list(columns))
    options = pa.ipc.IpcWriteOptions(allow_64bit=True)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, batch.schema, options=options) as writer:
        writer.write_batch(batch)


_NUMPY_TYPE = {pa.from_numpy_dtype(t): np.dtype(t) for t in (np.float32, np.int16, np.uint8, np.int32, np.int64)}


def _map_columns(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of ``_write_columns`` as views of the mapped file."""
    batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    # Arrow's own conversions first import pandas, which takes a hundred times as long as all of this
    columns = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        is_list = pa.types.is_fixed_size_list(column.type)
        values = column.type.value_type if is_list else column.type
        array = np.frombuffer(column.buffers()[-1], _NUMPY_TYPE[values])
        columns[name] = array.reshape(len(column), -1) if is_list else array[: len(column)]
    return columns
