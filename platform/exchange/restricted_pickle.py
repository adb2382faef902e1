"""Reads a pickled list item by item, without ever running anything that the file names.

Why not `pickle.Unpickler` with a restricted `find_class`, as its documentation suggests: it holds the whole list in
memory and calls the allowed names with any arguments, huge ones included. This reader knows NumPy arrays, numbers,
strings, tuples and lists, imports and calls nothing, and drops items once they are yielded.
"""

import mmap
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from spin_rl.errors import UserError
from spin_rl.platform.exchange.pickle_machine import Machine
from spin_rl.platform.exchange.pickled_values import PickledArray, UnexpectedError

_DAMAGE = (IndexError, struct.error, KeyError, ValueError, TypeError, AttributeError)
"""What actions raise where the opcodes are out of order."""


def read_items(path: Path, on_bytes: Callable[[int], None] | None = None) -> Iterator[Any]:
    """The items of the pickled list at ``path``, one by one.

    Arrays are yielded as ``PickledArray``, everything else as plain Python or NumPy scalars, tuples and lists.

    Args:
        path: a pickle, of any protocol from 2 on.
        on_bytes: called from time to time with the number of bytes read so far.

    Raises:
        UserError: it names anything but NumPy arrays, is truncated or damaged, or is no list; gives the position.
    """
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty, not a pickled list of transitions.")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        machine = Machine(content)
        count = 0
        try:
            for items in machine.run():
                for item in items:
                    yield item
                    count += 1
                if on_bytes:
                    on_bytes(machine.position)
            if not isinstance(machine.value, list):
                raise UnexpectedError("something else than a list")
        except UnexpectedError as error:
            raise UserError(f"{path} is refused: {error} at byte {machine.position}, after {count} items.") from error
        except _DAMAGE as error:
            raise UserError(
                f"{path} is damaged or cut off at byte {machine.position}, after {count} items ({error})."
            ) from error


def read_array(content: bytes, where: str) -> NDArray[Any]:
    """The array in a pickle in memory; refuses what ``read_items`` refuses."""
    machine = Machine(content)
    try:
        for _ in machine.run():
            raise UnexpectedError("a list")
        if not isinstance(machine.value, PickledArray):
            raise UnexpectedError("something else than an array")
    except UnexpectedError as error:
        raise UserError(f"{where} is refused: {error} at byte {machine.position}.") from error
    except _DAMAGE as error:
        raise UserError(f"{where} is damaged ({error}).") from error
    return machine.value.array
