"""The files of the factorised benchmark (Beeson et al. 2024, arXiv 2411.11088): a pickled list of tuples.

Each tuple is (observation, action, reward, next observation, done).
"""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spin_rl.errors import UserError
from spin_rl.platform.exchange.pickled_values import PickledArray
from spin_rl.platform.exchange.restricted_pickle import read_items
from spin_rl.platform.exchange.transitions import Source, Transitions

_BATCH = 4096


def read(path: Path, source: Source, *, on_progress: Callable[[int, int], None] | None = None) -> Iterator[Transitions]:
    """The transitions of a file, streamed.

    Args:
        path: of the pickle.
        source: name of the file, and the spaces that it must have.
        on_progress: called with the bytes read so far and the total.

    Raises:
        UserError: no such file, or an invalid row; the message names it.
    """
    if not path.is_file():
        raise UserError(f"There is no file {path}.")
    size = path.stat().st_size
    items = read_items(path, (lambda position: on_progress(position, size)) if on_progress else None)
    first = 0
    while rows := list(islice(items, _BATCH)):
        for offset, row in enumerate(rows):
            if not isinstance(row, tuple | list) or len(row) != 5:
                raise UserError(
                    f"{path}, row {first + offset}: not an (observation, action, reward, next observation, done) tuple."
                )
        observation, action, reward, next_observation, done = (
            _stack(column, f"{path}, row {first}") for column in zip(*rows, strict=True)
        )
        yield source.batch(
            np.arange(first, first + len(rows)),
            observation=observation,
            action=action,
            reward=reward.reshape(len(rows)),
            next_observation=next_observation,
            terminated=done,
        )
        first += len(rows)


def _stack(values: tuple[Any, ...], where: str) -> NDArray[Any]:
    """Values of equal type and shape, one per row, as an array (rows, ...)."""
    first = values[0]
    if not isinstance(first, PickledArray):
        if not all(isinstance(value, bool | int | float | np.generic) for value in values):
            raise UserError(f"{where} and after: a value is neither a number nor an array of numbers.")
        return np.array(values)
    equal = all(
        isinstance(value, PickledArray) and value.shape == first.shape and value.dtype == first.dtype
        for value in values
    )
    if not equal:
        raise UserError(f"{where} and after: the arrays differ in shape or type.")
    return np.frombuffer(b"".join(value.data for value in values), first.dtype).reshape(len(values), *first.shape)
