"""The stack machine that reads a pickle: a table with an operand and an action for each opcode that is allowed.

The opcodes are documented in `pickletools` of the standard library.
"""

import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from spin_rl.platform.exchange.pickled_values import CALLS, NAMES, Name, PickledArray, PickledDtype, UnexpectedError

_REMEMBERED = 10_000
"""Objects that later parts of a file may refer back to: the most recently used."""

_STACK = 100_000
_BYTES = 1 << 26
"""Limits far beyond any list of transitions: values on the stack, and bytes of one value."""


class Machine:
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
                raise UnexpectedError("no end of the list (the file is cut off)")
            opcode = content[self.position]
            self.position += 1
            step = opcodes.get(opcode)
            if step is None:
                raise UnexpectedError(f"the opcode {bytes([opcode])!r}, which no list of arrays needs,")
            operand, action = step
            action(self, operand(self) if operand else None)
            if self._items:
                yield self._items
                self._items = []
            if len(stack) > _STACK or len(marks) > _STACK:
                raise UnexpectedError("a nesting that no list of arrays has")

    @property
    def value(self) -> Any:
        """What the file contained, once it is read; of the outermost list, what was not yielded."""
        return self.stack[0]

    def take(self, count: int) -> bytes:
        """The next bytes of the file."""
        if count > self._size - self.position:
            raise UnexpectedError(f"a value of {count:,} bytes, more than the file has left,")
        if count > _BYTES:
            raise UnexpectedError(f"a value of {count:,} bytes")
        taken: bytes = self._content[self.position : self.position + count]
        self.position += count
        return taken

    def take_line(self) -> str:
        """The next line of the file, a name."""
        end = self._content.find(b"\n", self.position, self.position + 200)
        if end < 0:
            raise UnexpectedError("a name without end")
        line = self.take(end - self.position).decode()
        self.position += 1
        return line

    def check_protocol(self, number: int) -> None:
        if not 2 <= number <= 5:
            raise UnexpectedError(f"pickle protocol {number}")

    def ignore(self, _: Any) -> None:
        """A frame's length is not needed, and buffers are read-only already."""

    def stop(self, _: Any) -> None:
        if len(self.stack) != 1:
            raise UnexpectedError("more than one value")
        self.stopped = True

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def push_list(self, _: Any) -> None:
        self.stack.append([])

    def mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def memoize(self, _: Any) -> None:
        self.put(self._memoized)

    def put(self, number: int) -> None:
        self._memo[number] = self.stack[-1]
        self._memoized += 1
        if len(self._memo) > _REMEMBERED:
            self._memo.popitem(last=False)

    def get(self, number: int) -> None:
        if number not in self._memo:
            raise UnexpectedError(
                f"a reference to what lies more than {_REMEMBERED:,} objects back, such as a row that comes twice,"
            )
        self._memo.move_to_end(number)
        self.stack.append(self._memo[number])

    def build_tuple(self, _: Any) -> None:
        start = self.marks.pop()
        self.stack[start:] = [tuple(self.stack[start:])]

    def build_short_tuple(self, length: int) -> None:
        if len(self.stack) < length:
            raise UnexpectedError("a tuple of nothing")
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
            raise UnexpectedError("items without a list")
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
        if full not in NAMES:
            raise UnexpectedError(f"it wants to import {full}, which a list of arrays does not need,")
        self.stack.append(Name(full))

    def reduce(self, _: Any) -> None:
        """What the file means as a call: one of ours, chosen by name."""
        arguments = self.stack.pop()
        function = self.stack.pop()
        if not isinstance(function, Name) or function not in CALLS or not isinstance(arguments, tuple):
            raise UnexpectedError("a call")
        self.stack.append(CALLS[function](*arguments))

    def build(self, _: Any) -> None:
        """Fill the array or type below the state on top of the stack."""
        target, state = self.stack[-2], self.stack.pop()
        if isinstance(target, PickledArray) and isinstance(state, tuple) and len(state) == 5:
            _, shape, dtype, fortran, data = state
            if fortran and len(shape) > 1:
                raise UnexpectedError("an array in another than C order")
            target.fill(dtype, shape, data)
        elif isinstance(target, PickledDtype):
            target.set_state(state)
        else:
            raise UnexpectedError("a state for something that has none")


_Operand = Callable[[Machine], Any]


def _constant(value: Any) -> _Operand:
    return lambda _machine: value


def _byte(machine: Machine) -> int:
    return machine.take(1)[0]


def _integer(width: int, *, signed: bool = False) -> _Operand:
    return lambda machine: int.from_bytes(machine.take(width), "little", signed=signed)


def _bytes(count: _Operand) -> _Operand:
    """Bytes after their count."""
    return lambda machine: machine.take(count(machine))


def _text(count: _Operand) -> _Operand:
    return lambda machine: machine.take(count(machine)).decode("utf-8", "surrogatepass")


def _long(machine: Machine) -> int:
    return int.from_bytes(machine.take(_byte(machine)), "little", signed=True)


def _float(machine: Machine) -> float:
    return float(struct.unpack(">d", machine.take(8))[0])


def _two_lines(machine: Machine) -> tuple[str, str]:
    return machine.take_line(), machine.take_line()


_ACTIONS: dict[bytes, tuple[_Operand | None, Callable[[Machine, Any], None]]] = {
    pickle.PROTO: (_byte, Machine.check_protocol),
    pickle.FRAME: (_integer(8), Machine.ignore),
    pickle.STOP: (None, Machine.stop),
    pickle.READONLY_BUFFER: (None, Machine.ignore),
    pickle.NONE: (_constant(None), Machine.push),
    pickle.NEWTRUE: (_constant(True), Machine.push),
    pickle.NEWFALSE: (_constant(False), Machine.push),
    pickle.EMPTY_TUPLE: (_constant(()), Machine.push),
    pickle.EMPTY_LIST: (None, Machine.push_list),
    pickle.BININT1: (_byte, Machine.push),
    pickle.BININT2: (_integer(2), Machine.push),
    pickle.BININT: (_integer(4, signed=True), Machine.push),
    pickle.LONG1: (_long, Machine.push),
    pickle.BINFLOAT: (_float, Machine.push),
    pickle.SHORT_BINBYTES: (_bytes(_byte), Machine.push),
    pickle.BINBYTES: (_bytes(_integer(4)), Machine.push),
    pickle.BINBYTES8: (_bytes(_integer(8)), Machine.push),
    pickle.BYTEARRAY8: (_bytes(_integer(8)), Machine.push),
    pickle.SHORT_BINUNICODE: (_text(_byte), Machine.push),
    pickle.BINUNICODE: (_text(_integer(4)), Machine.push),
    pickle.BINUNICODE8: (_text(_integer(8)), Machine.push),
    pickle.MEMOIZE: (None, Machine.memoize),
    pickle.BINPUT: (_byte, Machine.put),
    pickle.LONG_BINPUT: (_integer(4), Machine.put),
    pickle.BINGET: (_byte, Machine.get),
    pickle.LONG_BINGET: (_integer(4), Machine.get),
    pickle.MARK: (None, Machine.mark),
    pickle.TUPLE: (None, Machine.build_tuple),
    pickle.TUPLE1: (_constant(1), Machine.build_short_tuple),
    pickle.TUPLE2: (_constant(2), Machine.build_short_tuple),
    pickle.TUPLE3: (_constant(3), Machine.build_short_tuple),
    pickle.APPEND: (None, Machine.append),
    pickle.APPENDS: (None, Machine.append_marked),
    pickle.GLOBAL: (_two_lines, Machine.push_global),
    pickle.STACK_GLOBAL: (None, Machine.push_stack_global),
    pickle.REDUCE: (None, Machine.reduce),
    pickle.BUILD: (None, Machine.build),
}
_OPCODES = {opcode[0]: actions for opcode, actions in _ACTIONS.items()}
