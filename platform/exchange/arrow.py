"""Columns of foreign Arrow tables as arrays."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spin_rl.errors import UserError


def files(path: Path, ending: str) -> list[Path]:
    """The file itself, or all files of a folder with this ending, sorted by name.

    Raises:
        UserError: no such file.
    """
    if path.is_file():
        return [path]
    found = sorted(path.rglob(f"*.{ending}")) if path.is_dir() else []
    if not found:
        raise UserError(f"{path} is neither a {ending} file nor a folder with such files.")
    return found


def read_batches(file: Path, needed: Sequence[str], batch_size: int = 20_000) -> Iterator[tuple[pa.Table, int, int]]:
    """A Parquet file in batches of rows, each with the number of rows read so far and the total.

    Raises:
        UserError: not a complete Parquet file, or one without a needed column.
    """
    try:
        parquet = pq.ParquetFile(file)
        require_columns(file, parquet.schema_arrow.names, needed)
        done, total = 0, parquet.metadata.num_rows
        for batch in parquet.iter_batches(batch_size):
            done += batch.num_rows
            yield pa.Table.from_batches([batch]), done, total
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def column_names(file: Path) -> list[str]:
    """Names of the columns of a Parquet file.

    Raises:
        UserError: not a Parquet file.
    """
    try:
        return list(pq.read_schema(file).names)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error


def _damaged(file: Path, error: Exception) -> UserError:
    return UserError(f"{file} is not a complete Parquet file ({str(error).splitlines()[0]}).")


def require_columns(file: Path, names: Sequence[str], needed: Sequence[str]) -> None:
    """Raises UserError if a needed column is missing."""
    missing = [name for name in needed if name not in names]
    if missing:
        raise UserError(f"{file} has no column {', '.join(missing)}; it has: {', '.join(names)}.")


def matrix(table: pa.Table, name: str, where: str) -> NDArray[Any]:
    """A column of numbers, or of lists of numbers of equal length, as an array (rows, width).

    Raises:
        UserError: missing values, lists of different lengths, or values that are not numbers.
    """
    column = table[name].combine_chunks()
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.storage
    if pa.types.is_struct(column.type):  # Ray's tensors of several shapes keep their values here
        column = column.field("data")
    rows = len(column)
    while (
        pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or pa.types.is_fixed_size_list(column.type)
    ):
        if column.null_count:
            raise UserError(f"{where}: a value of {name} is missing.")
        column = column.flatten()
    if column.null_count:
        raise UserError(f"{where}: a value of {name} is missing.")
    if rows == 0 or len(column) % rows:
        raise UserError(f"{where}: the values of {name} have different lengths.")
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)):
        raise UserError(f"{where}: {name} is of type {column.type}, not a number.")
    values: NDArray[Any] = column.to_numpy(zero_copy_only=False)
    return values.reshape(rows, -1)


def boolean(table: pa.Table, name: str) -> NDArray[np.bool_]:
    """A column of booleans (rows,); missing values count as false."""
    column: NDArray[Any] = table[name].combine_chunks().to_numpy(zero_copy_only=False)
    return np.array([bool(value) for value in column])
