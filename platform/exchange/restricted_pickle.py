"""Reads a pickled list item by item, without ever running anything that the file names.

Python's own unpickler imports and calls what a file asks for, and holds the whole list in memory. This one knows NumPy
arrays, numbers, strings, tuples and lists, calls nothing, and forgets items once they are given out. Opcodes: the
comments of ``pickletools`` in the standard library.
"""

import mmap
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spin_rl.errors import UserError

_REMEMBERED = 10_000
"""Objects that later parts of a file may refer back to: those used last."""

_STACK = 100_000
_BYTES = 1 << 26
"""Bounds that no list of transitions comes near: values on the stack, bytes of one value."""


class PickledArray:
    """A NumPy array as the file holds it; ``array`` gives a view of its bytes."""

    __slots__ = ("data", "dtype", "shape")

    def __init__(self) -> None:
        self.data, self.dtype, self.shape = b"", np.dtype(np.uint8), (0,)

    def fill(self, dtype: Any, shape: Any, data: Any) -> None:
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes) or not isinstance(shape, tuple):
            raise _UnexpectedError("an array of another kind than numbers")
        if not all(type(size) is int and size >= 0 for size in shape):
            raise _UnexpectedError("an array of no proper shape")
        items = 1
        for size in shape:
            items *= size
        if items * dtype.dtype.itemsize != len(data):
            raise _UnexpectedError(f"an array of shape {shape} with {len(data)} bytes")
        self.data, self.dtype, self.shape = data, dtype.dtype, shape

    @property
    def array(self) -> NDArray[Any]:
        return np.frombuffer(self.data, self.dtype).reshape(self.shape)


class _Dtype:
    """``numpy.dtype``: booleans, integers and floats only."""

    __slots__ = ("dtype",)

    def __init__(self, code: Any) -> None:
        if not isinstance(code, str) or code.lstrip("<>|=")[:1] not in tuple("biuf") or len(code) > 4:
            raise _UnexpectedError(f"values of type {code!r}")
        try:
            self.dtype = np.dtype(code)
        except TypeError as error:
            raise _UnexpectedError(f"values of type {code!r}") from error

    def set_state(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise _UnexpectedError("a type of another kind than numbers")
        self.dtype = self.dtype.newbyteorder(state[1])


class _UnexpectedError(Exception):
    """What was found at the place being read."""


def _scalar(dtype: Any, data: Any = b"") -> Any:
    holder = PickledArray()
    holder.fill(dtype, (), data)
    return holder.array[()]


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> PickledArray:
    if order != "C":
        raise _UnexpectedError("an array in another than C order")
    holder = PickledArray()
    holder.fill(dtype, shape, data)
    return holder


def _encode(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise _UnexpectedError("a text where bytes were expected")
    return text.encode("latin1")


_CALLS: dict[str, Callable[..., Any]] = {"_codecs.encode": _encode, "numpy.dtype": lambda code, *_: _Dtype(code)}
for _package in ("numpy.core", "numpy._core"):
    _CALLS |= {
        f"{_package}.multiarray._reconstruct": lambda *_: PickledArray(),
        f"{_package}.multiarray.scalar": _scalar,
        f"{_package}.numeric._frombuffer": _from_buffer,
    }
_NAMES = {*_CALLS, "numpy.ndarray"}
"""All that a file may name. Nothing is imported: these strings stand for the functions above."""


class _Name(str):
    """One of ``_NAMES``."""


def read_items(path: Path, on_bytes: Callable[[int], None] | None = None) -> Iterator[Any]:
    """The items of the list that ``path`` holds, one by one.

    Arrays come as ``PickledArray``, everything else as plain Python or NumPy scalars, tuples and lists.

    Args:
        path: a pickle, of any protocol from 2 on.
        on_bytes: called now and then with the bytes read so far.

    Raises:
        UserError: it names anything but NumPy arrays, is cut off, damaged, or no list; says the place in the file.
    """
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty, not a pickled list of transitions.")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        machine = _Machine(content)
        count = 0
        try:
            for items in machine.run():
                for item in items:
                    yield item
                    count += 1
                if on_bytes:
                    on_bytes(machine.position)
            if not isinstance(machine.value, list):
                raise _UnexpectedError("something else than a list")
        except _UnexpectedError as error:
            raise UserError(f"{path} is refused: {error} at byte {machine.position}, after {count} items.") from error
        except _DAMAGE as error:
            raise UserError(
                f"{path} is damaged or cut off at byte {machine.position}, after {count} items ({error})."
            ) from error


def read_array(content: bytes, where: str) -> NDArray[Any]:
    """The array that a pickle in memory holds; refuses what ``read_items`` refuses."""
    machine = _Machine(content)
    try:
        for _ in machine.run():
            raise _UnexpectedError("a list")
        if not isinstance(machine.value, PickledArray):
            raise _UnexpectedError("something else than an array")
    except _UnexpectedError as error:
        raise UserError(f"{where} is refused: {error} at byte {machine.position}.") from error
    except _DAMAGE as error:
        raise UserError(f"{where} is damaged ({error}).") from error
    return machine.value.array


_DAMAGE = (IndexError, struct.error, KeyError, ValueError, TypeError, AttributeError)
"""What a stack machine runs into where opcodes are not in order."""


class _Machine:
    """The stack machine; ``run`` gives the items of the outermost list in batches."""

    def __init__(self, content: Any) -> None:
        self._content = content
        self._size = len(content)
        self.position = 0
        self._stack: list[Any] = []  # after the end: the one value
        self._marks: list[int] = []
        self._memo: OrderedDict[int, Any] = OrderedDict()
        self._memoized = 0

    def run(self) -> Iterator[list[Any]]:
        content, stack, marks = self._content, self._stack, self._marks
        while True:
            if self.position >= self._size:
                raise _UnexpectedError("no end of the list (the file is cut off)")
            opcode = content[self.position]
            self.position += 1
            if opcode == 0x94:  # MEMOIZE
                self._remember(self._memoized, stack[-1])
            elif opcode == 0x28:  # MARK
                marks.append(len(stack))
            elif opcode in _GETS:
                stack.append(self._recall(self._number(_GETS[opcode])))
            elif opcode in _PUTS:
                self._remember(self._number(_PUTS[opcode]), stack[-1])
            elif opcode in _INTEGERS:
                stack.append(self._number(_INTEGERS[opcode]))
            elif opcode in _LENGTHS:
                stack.append(self._take(self._number(_LENGTHS[opcode])))
            elif opcode in _TEXTS:
                stack.append(self._take(self._number(_TEXTS[opcode])).decode("utf-8", "surrogatepass"))
            elif opcode in _CONSTANTS:
                stack.append(_CONSTANTS[opcode])
            elif opcode == 0x74:  # TUPLE
                start = marks.pop()
                stack[start:] = [tuple(stack[start:])]
            elif opcode in (0x85, 0x86, 0x87):  # TUPLE1, 2, 3
                length = opcode - 0x84
                if len(stack) < length:
                    raise _UnexpectedError("a tuple of nothing")
                stack[-length:] = [tuple(stack[-length:])]
            elif opcode == 0x52:  # REDUCE
                arguments = stack.pop()
                stack.append(self._call(stack.pop(), arguments))
            elif opcode == 0x62:  # BUILD
                self._build(stack[-2], stack.pop())
            elif opcode == 0x47:  # BINFLOAT
                stack.append(struct.unpack(">d", self._take(8))[0])
            elif opcode in (0x65, 0x61):  # APPENDS, APPEND
                start = marks.pop() if opcode == 0x65 else len(stack) - 1
                items = stack[start:]
                del stack[start:]
                if not isinstance(stack[-1], list):
                    raise _UnexpectedError("items without a list")
                if len(stack) == 1:
                    yield items
                else:
                    stack[-1].extend(items)
            elif opcode == 0x5D:  # EMPTY_LIST
                stack.append([])
            elif opcode == 0x95:  # FRAME: its length tells us nothing
                self._take(8)
            elif opcode == 0x80:  # PROTO
                if not 2 <= (protocol := self._number("<B")) <= 5:
                    raise _UnexpectedError(f"pickle protocol {protocol}")
            elif opcode == 0x63:  # GLOBAL
                stack.append(self._name(self._line(), self._line()))
            elif opcode == 0x93:  # STACK_GLOBAL
                name = stack.pop()
                stack.append(self._name(stack.pop(), name))
            elif opcode == 0x8A:  # LONG1
                stack.append(int.from_bytes(self._take(self._number("<B")), "little", signed=True))
            elif opcode == 0x98:  # READONLY_BUFFER: ours are
                pass
            elif opcode == 0x2E:  # STOP
                if len(stack) != 1:
                    raise _UnexpectedError("more than one value")
                return
            else:
                raise _UnexpectedError(f"the opcode {bytes([opcode])!r}, which no list of arrays needs,")
            if len(stack) > _STACK or len(marks) > _STACK:
                raise _UnexpectedError("a nesting that no list of arrays has")

    @property
    def value(self) -> Any:
        """What the file held, once it is read; of the outermost list, what was not given out."""
        return self._stack[0]

    def _number(self, layout: str) -> int:
        width = struct.calcsize(layout)
        number: int = struct.unpack(layout, self._take(width))[0]
        return number

    def _take(self, count: int) -> bytes:
        if count > self._size - self.position:
            raise _UnexpectedError(f"a value of {count:,} bytes, more than the file has left,")
        if count > _BYTES:
            raise _UnexpectedError(f"a value of {count:,} bytes")
        taken: bytes = self._content[self.position : self.position + count]
        self.position += count
        return taken

    def _line(self) -> str:
        end = self._content.find(b"\n", self.position, self.position + 200)
        if end < 0:
            raise _UnexpectedError("a name without end")
        line = self._take(end - self.position).decode()
        self.position += 1
        return line

    def _name(self, module: Any, name: Any) -> _Name:
        full = f"{module}.{name}"
        if full not in _NAMES:
            raise _UnexpectedError(f"it wants to import {full}, which a list of arrays does not need,")
        return _Name(full)

    def _call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, _Name) or function not in _CALLS or not isinstance(arguments, tuple):
            raise _UnexpectedError("a call")
        return _CALLS[function](*arguments)

    def _build(self, target: Any, state: Any) -> None:
        if isinstance(target, PickledArray) and isinstance(state, tuple) and len(state) == 5:
            _, shape, dtype, fortran, data = state
            if fortran and len(shape) > 1:
                raise _UnexpectedError("an array in another than C order")
            target.fill(dtype, shape, data)
        elif isinstance(target, _Dtype):
            target.set_state(state)
        else:
            raise _UnexpectedError("a state for something that has none")

    def _remember(self, number: int, value: Any) -> None:
        self._memo[number] = value
        self._memoized += 1
        if len(self._memo) > _REMEMBERED:
            self._memo.popitem(last=False)

    def _recall(self, number: int) -> Any:
        if number not in self._memo:
            raise _UnexpectedError(
                f"a reference to what lies more than {_REMEMBERED:,} objects back, such as a row that comes twice,"
            )
        self._memo.move_to_end(number)
        return self._memo[number]


_GETS = {0x68: "<B", 0x6A: "<I"}  # BINGET, LONG_BINGET
_PUTS = {0x71: "<B", 0x72: "<I"}  # BINPUT, LONG_BINPUT
_INTEGERS = {0x4B: "<B", 0x4D: "<H", 0x4A: "<i"}  # BININT1, BININT2, BININT
_LENGTHS = {0x43: "<B", 0x42: "<I", 0x8E: "<Q", 0x96: "<Q"}  # SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8
_TEXTS = {0x8C: "<B", 0x58: "<I", 0x8D: "<Q"}  # SHORT_BINUNICODE, BINUNICODE, BINUNICODE8
_CONSTANTS: dict[int, Any] = {0x4E: None, 0x88: True, 0x89: False, 0x29: ()}  # NONE, NEWTRUE, NEWFALSE, EMPTY_TUPLE
