"""Reads a pickled list item by item, without ever running anything that the file names.

Why not `pickle.Unpickler` with a restricted `find_class`, as its documentation suggests: it holds the whole list in
memory and calls the allowed names with any arguments, huge ones included. This reader knows NumPy arrays, numbers,
strings, tuples and lists, imports and calls nothing, and drops items once they are yielded. It is a stack machine: the
table at the end has an operand and an action for each opcode that a list of arrays needs. The opcodes are documented in
`pickletools` of the standard library.
"""

import mmap
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spin_rl.errors import UserError

_REMEMBERED = 10_000
"""Objects that later parts of a file may refer back to: the most recently used."""

_STACK = 100_000
_BYTES = 1 << 26
"""Limits far beyond any list of transitions: values on the stack, and bytes of one value."""


class PickledArray:
    """A NumPy array as the file has it; ``array`` is a view of its bytes."""

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
    """The file has something at the current position that a list of arrays does not."""


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
"""All names that a file may use. Nothing is imported: they stand for the functions above."""


class _Name(str):
    """One of ``_NAMES``."""


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
    """The array in a pickle in memory; refuses what ``read_items`` refuses."""
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
"""What actions raise where the opcodes are out of order."""


class _Machine:
    """The stack machine; ``run`` yields the items of the outermost list in batches."""

    def __init__(self, content: Any) -> None:
        self._content = content
        self._size = len(content)
        self.position = 0
        self.stack: list[Any] = []  # after the end: the one value
        self.marks: list[int] = []
        self.stopped = False
        self._items: list[Any] = []  # of the outermost list, not yielded yet
        self._memo: OrderedDict[int, Any] = OrderedDict()
        self._memoized = 0

    def run(self) -> Iterator[list[Any]]:
        """Execute the file's opcodes."""
        content, size, stack, marks, opcodes = self._content, self._size, self.stack, self.marks, _OPCODES
        while not self.stopped:
            if self.position >= size:
                raise _UnexpectedError("no end of the list (the file is cut off)")
            opcode = content[self.position]
            self.position += 1
            if opcode not in opcodes:
                raise _UnexpectedError(f"the opcode {bytes([opcode])!r}, which no list of arrays needs,")
            operand, action = opcodes[opcode]
            action(self, operand(self) if operand else None)
            if self._items:
                yield self._items
                self._items = []
            if len(stack) > _STACK or len(marks) > _STACK:
                raise _UnexpectedError("a nesting that no list of arrays has")

    @property
    def value(self) -> Any:
        """What the file contained, once it is read; of the outermost list, what was not yielded."""
        return self.stack[0]

    def take(self, count: int) -> bytes:
        """The next bytes of the file."""
        if count > self._size - self.position:
            raise _UnexpectedError(f"a value of {count:,} bytes, more than the file has left,")
        if count > _BYTES:
            raise _UnexpectedError(f"a value of {count:,} bytes")
        taken: bytes = self._content[self.position : self.position + count]
        self.position += count
        return taken

    def take_line(self) -> str:
        """The next line of the file, a name."""
        end = self._content.find(b"\n", self.position, self.position + 200)
        if end < 0:
            raise _UnexpectedError("a name without end")
        line = self.take(end - self.position).decode()
        self.position += 1
        return line

    def check_protocol(self, number: int) -> None:
        if not 2 <= number <= 5:
            raise _UnexpectedError(f"pickle protocol {number}")

    def ignore(self, _: Any) -> None:
        """A frame's length is not needed, and buffers are read-only already."""

    def stop(self, _: Any) -> None:
        if len(self.stack) != 1:
            raise _UnexpectedError("more than one value")
        self.stopped = True

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def push_list(self, _: Any) -> None:
        self.stack.append([])

    def mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def memoize(self, _: Any) -> None:
        self._remember(self._memoized)

    def put(self, number: int) -> None:
        self._remember(number)

    def _remember(self, number: int) -> None:
        self._memo[number] = self.stack[-1]
        self._memoized += 1
        if len(self._memo) > _REMEMBERED:
            self._memo.popitem(last=False)

    def get(self, number: int) -> None:
        if number not in self._memo:
            raise _UnexpectedError(
                f"a reference to what lies more than {_REMEMBERED:,} objects back, such as a row that comes twice,"
            )
        self._memo.move_to_end(number)
        self.stack.append(self._memo[number])

    def build_tuple(self, _: Any) -> None:
        start = self.marks.pop()
        self.stack[start:] = [tuple(self.stack[start:])]

    def build_short_tuple(self, length: int) -> None:
        if len(self.stack) < length:
            raise _UnexpectedError("a tuple of nothing")
        self.stack[-length:] = [tuple(self.stack[-length:])]

    def append(self, _: Any) -> None:
        self._extend(len(self.stack) - 1)

    def append_marked(self, _: Any) -> None:
        self._extend(self.marks.pop())

    def _extend(self, start: int) -> None:
        """Append the values from ``start`` on to the list before them, or yield them if that is the outermost list."""
        items = self.stack[start:]
        del self.stack[start:]
        if not isinstance(self.stack[-1], list):
            raise _UnexpectedError("items without a list")
        if len(self.stack) == 1:
            self._items = items
        else:
            self.stack[-1].extend(items)

    def push_global(self, module_and_name: tuple[str, str]) -> None:
        self._push_name(*module_and_name)

    def push_stack_global(self, _: Any) -> None:
        name = self.stack.pop()
        self._push_name(self.stack.pop(), name)

    def _push_name(self, module: Any, name: Any) -> None:
        full = f"{module}.{name}"
        if full not in _NAMES:
            raise _UnexpectedError(f"it wants to import {full}, which a list of arrays does not need,")
        self.stack.append(_Name(full))

    def reduce(self, _: Any) -> None:
        """What the file means as a call: one of ours, chosen by name."""
        arguments = self.stack.pop()
        function = self.stack.pop()
        if not isinstance(function, _Name) or function not in _CALLS or not isinstance(arguments, tuple):
            raise _UnexpectedError("a call")
        self.stack.append(_CALLS[function](*arguments))

    def build(self, _: Any) -> None:
        """Fill the array or type below the state on top of the stack."""
        target, state = self.stack[-2], self.stack.pop()
        if isinstance(target, PickledArray) and isinstance(state, tuple) and len(state) == 5:
            _, shape, dtype, fortran, data = state
            if fortran and len(shape) > 1:
                raise _UnexpectedError("an array in another than C order")
            target.fill(dtype, shape, data)
        elif isinstance(target, _Dtype):
            target.set_state(state)
        else:
            raise _UnexpectedError("a state for something that has none")


_Operand = Callable[[_Machine], Any]


def _constant(value: Any) -> _Operand:
    return lambda _machine: value


def _integer(width: int, *, signed: bool = False) -> _Operand:
    return lambda machine: int.from_bytes(machine.take(width), "little", signed=signed)


def _bytes(width: int) -> _Operand:
    """Bytes after their count, itself an integer of ``width`` bytes."""
    return lambda machine: machine.take(int.from_bytes(machine.take(width), "little"))


def _text(width: int) -> _Operand:
    content = _bytes(width)
    return lambda machine: content(machine).decode("utf-8", "surrogatepass")


def _long(machine: _Machine) -> int:
    return int.from_bytes(machine.take(machine.take(1)[0]), "little", signed=True)


def _float(machine: _Machine) -> float:
    return float(struct.unpack(">d", machine.take(8))[0])


def _two_lines(machine: _Machine) -> tuple[str, str]:
    return machine.take_line(), machine.take_line()


_ACTIONS: dict[bytes, tuple[_Operand | None, Callable[[_Machine, Any], None]]] = {
    pickle.PROTO: (_integer(1), _Machine.check_protocol),
    pickle.FRAME: (_integer(8), _Machine.ignore),
    pickle.STOP: (None, _Machine.stop),
    pickle.READONLY_BUFFER: (None, _Machine.ignore),
    pickle.NONE: (_constant(None), _Machine.push),
    pickle.NEWTRUE: (_constant(True), _Machine.push),
    pickle.NEWFALSE: (_constant(False), _Machine.push),
    pickle.EMPTY_TUPLE: (_constant(()), _Machine.push),
    pickle.EMPTY_LIST: (None, _Machine.push_list),
    pickle.BININT1: (_integer(1), _Machine.push),
    pickle.BININT2: (_integer(2), _Machine.push),
    pickle.BININT: (_integer(4, signed=True), _Machine.push),
    pickle.LONG1: (_long, _Machine.push),
    pickle.BINFLOAT: (_float, _Machine.push),
    pickle.SHORT_BINBYTES: (_bytes(1), _Machine.push),
    pickle.BINBYTES: (_bytes(4), _Machine.push),
    pickle.BINBYTES8: (_bytes(8), _Machine.push),
    pickle.BYTEARRAY8: (_bytes(8), _Machine.push),
    pickle.SHORT_BINUNICODE: (_text(1), _Machine.push),
    pickle.BINUNICODE: (_text(4), _Machine.push),
    pickle.BINUNICODE8: (_text(8), _Machine.push),
    pickle.MEMOIZE: (None, _Machine.memoize),
    pickle.BINPUT: (_integer(1), _Machine.put),
    pickle.LONG_BINPUT: (_integer(4), _Machine.put),
    pickle.BINGET: (_integer(1), _Machine.get),
    pickle.LONG_BINGET: (_integer(4), _Machine.get),
    pickle.MARK: (None, _Machine.mark),
    pickle.TUPLE: (None, _Machine.build_tuple),
    pickle.TUPLE1: (_constant(1), _Machine.build_short_tuple),
    pickle.TUPLE2: (_constant(2), _Machine.build_short_tuple),
    pickle.TUPLE3: (_constant(3), _Machine.build_short_tuple),
    pickle.APPEND: (None, _Machine.append),
    pickle.APPENDS: (None, _Machine.append_marked),
    pickle.GLOBAL: (_two_lines, _Machine.push_global),
    pickle.STACK_GLOBAL: (None, _Machine.push_stack_global),
    pickle.REDUCE: (None, _Machine.reduce),
    pickle.BUILD: (None, _Machine.build),
}
_OPCODES = {opcode[0]: actions for opcode, actions in _ACTIONS.items()}
