"""Values in a pickled list of arrays, and what the names in such a file stand for; nothing is imported or called."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray


class UnexpectedError(Exception):
    """The file has something at the current position that a list of arrays does not."""


class PickledArray:
    """A NumPy array as the file has it; ``array`` is a view of its bytes."""

    __slots__ = ("data", "dtype", "shape")

    def __init__(self) -> None:
        self.data, self.dtype, self.shape = b"", np.dtype(np.uint8), (0,)

    def fill(self, dtype: Any, shape: Any, data: Any) -> None:
        if not isinstance(dtype, PickledDtype) or not isinstance(data, bytes) or not isinstance(shape, tuple):
            raise UnexpectedError("an array of another kind than numbers")
        if not all(type(size) is int and size >= 0 for size in shape):
            raise UnexpectedError("an array of no proper shape")
        items = 1
        for size in shape:
            items *= size
        if items * dtype.dtype.itemsize != len(data):
            raise UnexpectedError(f"an array of shape {shape} with {len(data)} bytes")
        self.data, self.dtype, self.shape = data, dtype.dtype, shape

    @property
    def array(self) -> NDArray[Any]:
        return np.frombuffer(self.data, self.dtype).reshape(self.shape)


class PickledDtype:
    """``numpy.dtype``: booleans, integers and floats only."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any) -> None:
        if not isinstance(code, str) or code.lstrip("<>|=")[:1] not in tuple("biuf") or len(code) > 4:
            raise UnexpectedError(f"values of type {code!r}")
        try:
            self.dtype = np.dtype(code)
        except TypeError as error:
            raise UnexpectedError(f"values of type {code!r}") from error

    def set_state(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise UnexpectedError("a type of another kind than numbers")
        self.dtype = self.dtype.newbyteorder(state[1])


def _scalar(dtype: Any, data: Any = b"") -> Any:
    holder = PickledArray()
    holder.fill(dtype, (), data)
    return holder.array[()]


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> PickledArray:
    if order != "C":
        raise UnexpectedError("an array in another than C order")
    holder = PickledArray()
    holder.fill(dtype, shape, data)
    return holder


def _encode(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise UnexpectedError("a text where bytes were expected")
    return text.encode("latin1")


CALLS: dict[str, Callable[..., Any]] = {"_codecs.encode": _encode, "numpy.dtype": lambda code, *_: PickledDtype(code)}
for _package in ("numpy.core", "numpy._core"):
    CALLS |= {
        f"{_package}.multiarray._reconstruct": lambda *_: PickledArray(),
        f"{_package}.multiarray.scalar": _scalar,
        f"{_package}.numeric._frombuffer": _from_buffer,
    }
NAMES = {*CALLS, "numpy.ndarray"}
"""All names that a file may use. Nothing is imported: they stand for the functions above."""


class Name(str):
    """One of ``NAMES``."""
