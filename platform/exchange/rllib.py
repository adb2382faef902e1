"""RLlib's recorded episodes in its column format: Parquet files with one transition per row.

Columns eps_id, agent_id, module_id, obs, actions, rewards, new_obs, terminateds, truncateds
(``AlgorithmConfig.offline_data(output_write_episodes=False)`` writes them, ``input_`` reads them).
"""

from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spin_rl.errors import UserError
from spin_rl.platform.datasets.reader import OfflineDataset
from spin_rl.platform.exchange.arrow import boolean, files, matrix, read_batches
from spin_rl.platform.exchange.restricted_pickle import read_array
from spin_rl.platform.exchange.transitions import Source, Transitions

_NEEDED = ("eps_id", "obs", "actions", "rewards", "new_obs", "terminateds", "truncateds")


def read(path: Path, source: Source, *, on_progress: Callable[[int, int], None] | None = None) -> Iterator[Transitions]:
    """The transitions of a file, or of all files in a folder sorted by name.

    Args:
        path: of the file or folder.
        source: the spaces that they must have.
        on_progress: called with the rows of a file read so far and their total.

    Raises:
        UserError: no such file, missing columns, or invalid values; the message names the file and the row.
    """
    for file in files(path, "parquet"):
        here = source._replace(name=str(file))
        first = 0
        for table, done, total in read_batches(file, _NEEDED):
            if on_progress:
                on_progress(done, total)
            truncated = boolean(table, "truncateds")
            terminated = boolean(table, "terminateds")
            episode = table["eps_id"].to_pylist()
            # an episode that was cut off by the end of a recording has no flag at its end, but the next id differs
            cut_off = np.array([one != other for one, other in zip(episode, [*episode[1:], None], strict=True)])
            cut_off[-1] = False
            if any(value is None for value in episode):
                raise UserError(f"{file}, row {first}: an episode has no eps_id.")
            yield here.batch(
                np.arange(first, first + table.num_rows),
                observation=_arrays(table, "obs", here, first),
                action=_arrays(table, "actions", here, first),
                reward=matrix(table, "rewards", str(file))[:, 0],
                next_observation=_arrays(table, "new_obs", here, first),
                terminated=terminated,
                ended=terminated | truncated | cut_off,
            )
            first += table.num_rows


def _arrays(table: pa.Table, name: str, source: Source, first: int) -> NDArray[Any]:
    """A column as an array (rows, width). RLlib by default compresses observations: pickled array, LZ4, base64."""
    if not pa.types.is_string(table[name].type) and not pa.types.is_large_string(table[name].type):
        return matrix(table, name, source.name)
    try:
        from lz4.frame import LZ4FrameDecompressor  # optional
    except ImportError as error:
        raise UserError(f"{source.name} is compressed; install lz4 to read it: pip install lz4") from error
    rows = []
    for offset, text in enumerate(table[name].to_pylist()):
        where = f"{source.name}, row {first + offset}, {name}"
        try:
            content = LZ4FrameDecompressor().decompress(b64decode(text or ""), _LARGEST)
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{where} is damaged ({error}).") from error
        rows.append(read_array(content, where))
    if len({row.shape for row in rows}) != 1:
        raise UserError(f"{source.name}, row {first} and after: the values of {name} have different lengths.")
    return np.stack(rows).reshape(len(rows), -1)


_LARGEST = 1 << 24
"""Maximum size of a decompressed observation, in bytes."""


def write(dataset: OfflineDataset, folder: Path, *, on_progress: Callable[[int, int], None] | None = None) -> None:
    """Write a dataset in RLlib's column format: ``episodes-00000.parquet`` and so on, in ``folder``."""
    metadata = dataset.metadata
    offsets = dataset.episode_offsets
    step = max(1, 100_000 * metadata.episodes // metadata.transitions)  # episodes per file
    for number, start in enumerate(range(0, metadata.episodes, step)):
        stop = min(start + step, metadata.episodes)
        rows = dataset.transitions[offsets[start] : offsets[stop]]
        episode = np.repeat(np.arange(start, stop), np.diff(offsets[start : stop + 1]))
        terminated = dataset.terminated[rows]
        ends = np.zeros(len(rows), bool)
        ends[offsets[start + 1 : stop + 1] - offsets[start] - 1] = True
        table = pa.table(
            {
                "eps_id": pa.array([f"{metadata.key}-{index}" for index in episode]),
                "agent_id": pa.nulls(len(rows), pa.string()),
                "module_id": pa.nulls(len(rows), pa.string()),
                "obs": _lists(dataset.observations[rows]),
                "actions": _lists(dataset.actions[rows].astype(np.int64)),
                "rewards": dataset.rewards[rows],
                "new_obs": _lists(dataset.observations[rows + 1]),
                "terminateds": terminated,
                "truncateds": ends & ~terminated,
            }
        )
        pq.write_table(table, folder / f"episodes-{number:05d}.parquet", compression="zstd")
        if on_progress:
            on_progress(int(offsets[stop]), metadata.transitions)


def _lists(array: np.ndarray) -> pa.Array:
    """An array (rows, width) as a tensor column, which Ray Data reads as arrays."""
    values = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(array).ravel()), array.shape[1])
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(values.type.value_type, [array.shape[1]]), values)
