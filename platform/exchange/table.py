"""A table with named columns, as Parquet or CSV: one row per step, the rows of an episode consecutive and in order."""

import fnmatch
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from spin_rl.errors import UserError
from spin_rl.platform.exchange.arrow import boolean, column_names, matrix, read_batches, require_columns
from spin_rl.platform.exchange.transitions import Source, Transitions


@dataclass(frozen=True)
class Columns:
    """Names of a table's columns.

    With ``next_observation``, every row is a transition. Without it, the next row of the episode holds the next
    observation, and the last row of an episode only holds its last observation.
    """

    observation: Sequence[str]  # S names, or fewer if the columns hold lists
    action: Sequence[str]  # N names, likewise
    next_observation: Sequence[str] = ()  # S names, likewise, or none
    reward: str = "reward"
    episode: str = "episode"
    terminated: str = "terminated"  # false everywhere if there is no such column

    @property
    def needed(self) -> list[str]:
        return [*self.observation, *self.action, *self.next_observation, self.reward, self.episode]


def named_columns(path: Path, patterns: Sequence[str]) -> list[str]:
    """The columns of a table given by name or by a pattern such as ``obs_*``; for each pattern in the table's order.

    Raises:
        UserError: no such table, or a pattern that no column matches.
    """
    existing = _column_names(path)
    names: list[str] = []
    for pattern in patterns:
        found = [pattern] if pattern in existing else fnmatch.filter(existing, pattern)
        if not found:
            raise UserError(f"{path} has no column {pattern}; it has: {', '.join(existing)}.")
        names += found
    return names


def read(
    path: Path, source: Source, *, columns: Columns, on_progress: Callable[[int, int], None] | None = None
) -> Iterator[Transitions]:
    """The transitions of a table.

    Args:
        path: .parquet or .csv.
        source: name of the table, and the spaces that it must have.
        columns: names of its columns.
        on_progress: called with the rows (of a CSV file: bytes) read so far and the total.

    Raises:
        UserError: missing columns or invalid values; the message names the table and the row.
    """
    seen: set[Any] = set()
    for table, first in _whole_episodes(path, columns, on_progress):
        names = table[columns.episode].to_numpy()
        starts = np.append(True, names[1:] != names[:-1])
        for row in np.flatnonzero(starts):
            if names[row] in seen:
                raise UserError(f"{path}, row {first + int(row)}: episode {names[row]} appears a second time.")
            seen.add(names[row])
        ends = np.append(starts[1:], True)
        values = _values(table, columns.observation, source)
        if columns.next_observation:
            rows, next_observation = np.arange(len(names)), _values(table, columns.next_observation, source)
        else:
            rows = np.flatnonzero(~ends)
            next_observation = values[rows + 1]
            ends = np.append(ends[1:], False)
        if not len(rows):
            continue
        has_flag = columns.terminated in table.column_names
        terminated = boolean(table, columns.terminated) if has_flag else np.zeros(len(names), bool)
        yield source.batch(
            first + rows,
            observation=values[rows],
            action=_values(table, columns.action, source)[rows],
            reward=matrix(table, columns.reward, source.name)[rows, 0],
            next_observation=next_observation,
            terminated=terminated[rows],
            ended=ends[rows],
        )


def _values(table: pa.Table, names: Sequence[str], source: Source) -> NDArray[Any]:
    return np.concatenate([matrix(table, name, source.name) for name in names], axis=1)


def _whole_episodes(
    path: Path, columns: Columns, on_progress: Callable[[int, int], None] | None
) -> Iterator[tuple[pa.Table, int]]:
    """The table in pieces of whole episodes, each with the number of its first row."""
    rest, first = None, 0
    for batch, done, total in _tables(path, columns.needed):
        table = pa.concat_tables([rest, batch]) if rest is not None else batch
        names = table[columns.episode].to_pylist()
        if None in names:
            raise UserError(f"{path}, row {first + names.index(None)}: {columns.episode} is missing.")
        whole = len(names) - next((i for i, name in enumerate(reversed(names)) if name != names[-1]), len(names))
        if whole:
            yield table.slice(0, whole), first
        rest, first = table.slice(whole), first + whole
        if on_progress:
            on_progress(done, total)
    if rest is not None and rest.num_rows:
        yield rest, first


def _tables(path: Path, needed: Sequence[str]) -> Iterator[tuple[pa.Table, int, int]]:
    if _is_parquet(path):
        yield from read_batches(path, needed)
        return
    done, total = 0, path.stat().st_size
    with _opened(path) as reader:
        require_columns(path, reader.schema.names, needed)
        for batch in reader:
            done += batch.nbytes
            yield pa.Table.from_batches([batch]), min(done, total), total


def _column_names(path: Path) -> list[str]:
    if _is_parquet(path):
        return column_names(path)
    with _opened(path) as reader:
        return list(reader.schema.names)


def _is_parquet(path: Path) -> bool:
    """Whether the table is Parquet; otherwise it is CSV."""
    if not path.is_file():
        raise UserError(f"There is no file {path}.")
    if path.suffix not in (".parquet", ".csv"):
        raise UserError(f"{path} is neither .parquet nor .csv.")
    return path.suffix == ".parquet"


@contextmanager
def _opened(path: Path) -> Iterator[pyarrow.csv.CSVStreamingReader]:
    try:
        with pyarrow.csv.open_csv(path) as reader:
            yield reader
    except pa.ArrowException as error:
        raise UserError(f"{path} is not a table of numbers ({str(error).splitlines()[0]}).") from error
