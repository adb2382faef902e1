"""Parquet parts: one column per dimension; byte-stream split floats, delta-encoded counters, zstd for everything.

A column per dimension compresses better than a list column and is readable by any tool that reads Parquet.
"""

import os
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from spin_rl.errors import UserError
from spin_rl.platform.datasets.metadata import DatasetMetadata, Part
from spin_rl.platform.datasets.rows import ContentDigest, Rows, join

PART_ROWS = 100_000
"""A part is closed after the first block of episodes that brings it to this number of rows."""

_ROW_GROUP = 32_768

_QUICK, _SMALL = 3, 12
"""Levels of zstd for temporary and for final files. Level 19 takes six times as long and saves 1.5 %."""


def part_schema(observation_size: int, sub_actions: int) -> pa.Schema:
    """Columns of a part: episode, step, observation_0.., action_0.., reward, terminated."""
    return pa.schema(
        [("episode", pa.int64()), ("step", pa.int32())]
        + [(f"observation_{index}", pa.float32()) for index in range(observation_size)]
        + [(f"action_{index}", pa.int16()) for index in range(sub_actions)]
        + [("reward", pa.float32()), ("terminated", pa.bool_())]
    )


def write_part(path: Path, rows: Rows, compression_level: int = _QUICK) -> None:
    """Write rows as one Parquet file, synced to disk; a kill meanwhile leaves no file of this name."""
    schema = part_schema(rows.observations.shape[1], rows.actions.shape[1])
    columns = [rows.episode, rows.step, *rows.observations.T, *rows.actions.T, rows.rewards, rows.terminated]
    table = pa.table([np.ascontiguousarray(column) for column in columns], schema=schema)
    encodings = {field.name: "BYTE_STREAM_SPLIT" for field in schema if field.type == pa.float32()}
    encodings |= {"episode": "DELTA_BINARY_PACKED", "step": "DELTA_BINARY_PACKED"}
    unfinished = path.with_name(f"{path.name}.{uuid.uuid4().hex}.new")  # two writers never write into one file
    with unfinished.open("wb") as file:
        pq.write_table(
            table,
            file,
            row_group_size=_ROW_GROUP,
            compression="zstd",
            compression_level=compression_level,
            use_dictionary=[name for name in schema.names if name not in encodings],
            column_encoding=encodings,
            write_page_checksum=True,
        )
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)


def read_part(file: str | Path | BinaryIO, name: str, observation_size: int, sub_actions: int) -> Rows:
    """Read a part; its values are not checked yet, see ``check_rows``.

    Raises:
        UserError: not a complete Parquet file, or other columns than expected; the message names the file and, if
            known, the rows.
    """
    try:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        schema = parquet.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{name} is not a complete Parquet file ({_brief(error)}); {MAKE_AGAIN}") from error
    expected = part_schema(observation_size, sub_actions)
    if not schema.equals(expected):
        raise UserError(f"{name} has other columns than its task: {_difference(schema, expected)}; {MAKE_AGAIN}")
    blocks, first = [], 0
    for group in range(parquet.num_row_groups):
        count = parquet.metadata.row_group(group).num_rows
        try:
            blocks.append(_decode(parquet.read_row_group(group), observation_size, sub_actions))
        except (pa.ArrowException, OSError, ValueError) as error:
            rows = f"rows {first} to {first + count - 1}"
            raise UserError(f"{name} cannot be read at {rows} ({_brief(error)}); {MAKE_AGAIN}") from error
        first += count
    if not first:
        raise UserError(f"{name} has no rows; {MAKE_AGAIN}")
    return join(blocks)


MAKE_AGAIN = "delete this dataset's folder and make it again (spin-rl data make)."


def _decode(table: pa.Table, observation_size: int, sub_actions: int) -> Rows:
    if any(column.null_count for column in table.columns):
        raise ValueError("a value is missing")
    columns = [column.to_numpy() for column in table.columns]
    return Rows(
        episode=columns[0],
        step=columns[1],
        observations=np.stack(columns[2 : 2 + observation_size], axis=1),
        actions=np.stack(columns[2 + observation_size : 2 + observation_size + sub_actions], axis=1),
        rewards=columns[-2],
        terminated=columns[-1],
    )


def check_rows(rows: Rows, name: str, nvec: tuple[int, ...], first_episode: int) -> None:
    """Check every value of a part's rows.

    Args:
        rows: of the part.
        name: of the file, for messages.
        nvec: choices per sub-action (N,).
        first_episode: number that the part's first episode must have.

    Raises:
        UserError: an invalid value; the message names the file, the row and the problem.
    """
    new = np.flatnonzero(rows.step[1:] == 0) + 1  # rows that start an episode, except the first
    last = np.append(new, len(rows.step)) - 1  # rows that have only an observation
    is_last = np.zeros(len(rows.step), bool)
    is_last[last] = True
    # each row is followed by the next step of its episode, or by the first step of the next episode
    follows = rows.episode[1:] == np.where(is_last[:-1], rows.episode[:-1] + 1, rows.episode[:-1])
    follows &= rows.step[1:] == np.where(is_last[:-1], 0, rows.step[:-1] + 1)
    before_last = np.append(is_last[1:], False) & ~is_last
    choices = np.array(nvec)
    checks = (
        (~np.isfinite(rows.observations).all(1), "an observation that is not finite"),
        (~np.isfinite(rows.rewards), "a reward that is not finite"),
        (((rows.actions < 0) | (rows.actions >= choices)).any(1), f"an action outside of nvec {list(nvec)}"),
        (np.append((rows.episode[0] != first_episode) | (rows.step[0] != 0), ~follows), "a step out of order"),
        (is_last & (rows.step == 0), "an episode without a step"),
        (rows.terminated & ~before_last, "a termination before the end of its episode"),
        (is_last & ((rows.actions != 0).any(1) | (rows.rewards != 0)), "an action or reward after the last step"),
    )
    for wrong, what in checks:
        if wrong.any():
            row = int(np.argmax(wrong))
            at = f"row {row} (episode {rows.episode[row]}, step {rows.step[row]})"
            raise UserError(f"{name} has {what} at {at}; {MAKE_AGAIN}")


def read_verified(
    metadata: DatasetMetadata,
    open_part: Callable[[str], Any],
    where: str,
    on_rows: Callable[[int], None] | None = None,
) -> Iterator[Rows]:
    """All parts in order, verified: schema, order, ranges, finiteness, the digest of each part and of the whole.

    Args:
        metadata: of the dataset.
        open_part: opens a part's file by its name.
        where: location of the dataset, for messages.
        on_rows: called with the number of rows just verified.

    Raises:
        UserError: a part is damaged; the message names the file and the row.
    """
    whole = ContentDigest(metadata.identity)
    episodes = total = 0
    for part in metadata.parts:
        name = f"{where}/{part.file}"
        try:
            file = open_part(part.file)
        except FileNotFoundError as error:
            raise UserError(f"{name} is missing; {MAKE_AGAIN}") from error
        with file:
            rows = read_part(file, name, metadata.observation_size, len(metadata.nvec))
        check_rows(rows, name, metadata.nvec, episodes)
        if len(rows.step) != part.rows or part_digest(rows) != part.digest:
            raise UserError(
                f"{name}, rows 0 to {len(rows.step) - 1}, differs from what was written (digest); {MAKE_AGAIN}"
            )
        whole.update(rows)
        episodes, total = int(rows.episode[-1]) + 1, total + len(rows.step)
        if on_rows:
            on_rows(len(rows.step))
        yield rows
    if whole.hexdigest() != metadata.digest or (episodes, total) != (metadata.episodes, metadata.rows):
        raise UserError(f"{where}/metadata.json does not describe its parts (digest); {MAKE_AGAIN}")


def part_digest(rows: Rows) -> str:
    """Digest of one part's content."""
    digest = ContentDigest({})
    digest.update(rows)
    return digest.hexdigest()


class PartWriter:
    """Writes blocks of whole episodes as parts of a folder and computes the digest of all of them.

    Parts are compressed in parallel threads; as a context manager it ends the threads in any case.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self._folder = folder
        self._digest = ContentDigest(identity)
        self._waiting: list[Rows] = []
        self._threads = ThreadPoolExecutor(min(_WRITERS, os.cpu_count() or 1))
        self._writing: list[Future[None]] = []
        self.parts: list[Part] = []

    def add(self, rows: Rows) -> None:
        self._waiting.append(rows)
        if sum(len(block.step) for block in self._waiting) >= PART_ROWS:
            self._flush()

    def finish(self) -> str:
        """Write the remaining rows; returns the digest of the whole dataset."""
        self._flush()
        for writing in self._writing:
            writing.result()
        return self._digest.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def _flush(self) -> None:
        if not self._waiting:
            return
        rows = join(self._waiting)
        self._waiting = []
        name = f"part-{len(self.parts):05d}.parquet"
        if len(self._writing) >= _WRITERS:  # limits how many are in memory
            self._writing.pop(0).result()
        self._writing.append(self._threads.submit(write_part, self._folder / name, rows, _SMALL))
        self._digest.update(rows)
        self.parts.append(Part(name, len(rows.step), part_digest(rows)))


_WRITERS = 4


def _difference(found: pa.Schema, expected: pa.Schema) -> str:
    missing = [name for name in expected.names if name not in found.names]
    unexpected = [name for name in found.names if name not in expected.names]
    retyped = [n for n in found.names if n in expected.names and found.field(n).type != expected.field(n).type]
    differences = [
        f"{what} {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another type", retyped))
        if names
    ]
    return "; ".join(differences) or "another order"


def _brief(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
