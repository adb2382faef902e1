"""How reports show a sweep's methods: their names, their order, and their looks in pictures.

All of it comes from the sweep's record (``sweep.json``), where the registry of methods put it when the sweep started.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb

from spin_rl.platform.results.files import SweepResults

Line = str | tuple[int, tuple[float, ...]]

# Okabe and Ito's colours, without the yellow, which does not show on paper; then four more
_PALETTE: tuple[tuple[str, Line, str], ...] = (
    ("#0072B2", "-", "o"),
    ("#D55E00", (0, (5, 1.5)), "s"),
    ("#444444", (0, (1.2, 1.2)), "^"),
    ("#009E73", (0, (5, 1.5, 1.2, 1.5)), "D"),
    ("#56B4E9", (0, (8, 2)), "v"),
    ("#CC79A7", (0, (3, 1)), "P"),
    ("#E69F00", (0, (2, 1)), "X"),
    ("#8C564B", "-.", "<"),
    ("#7F7F2A", "--", ">"),
    ("#5D3A9B", ":", "p"),
    ("#9E9E9E", "-", "h"),
)

_MARKERS = "os^Dv<>pPX"


@dataclass(frozen=True)
class Look:
    """How a method is drawn: its colour (RGB, 0 to 1), and line style and marker for those who cannot tell colours."""

    color: tuple[float, float, float]
    line: Line
    marker: str

    def variant(self, place: int, count: int) -> "Look":
        """The look of a variant of the method: from a light tint to a dark shade, so that the order shows."""
        if count < 2:
            return self
        base, share = np.array(self.color), place / (count - 1)
        base = base + (1 - base) * 0.6 * (1 - 2 * share) if share < 0.5 else base * (1 - 0.65 * (2 * share - 1))
        color = (float(base[0]), float(base[1]), float(base[2]))
        return replace(self, color=color, marker=_MARKERS[place % len(_MARKERS)])


class Presentation:
    """Names, order and looks of a sweep's methods.

    A method that the record lacks (an older sweep, a trainable from elsewhere) is shown by its plain name after the
    others, with a look from the palette that depends only on the sweep's methods.
    """

    def __init__(self, results: SweepResults) -> None:
        recorded: Mapping[str, Mapping[str, Any]] = results.record.get("methods", {})
        others = sorted(set(results.trials["algorithm"].dropna().map(str)) - set(recorded))
        self._names = {method: str(shown["label"]) for method, shown in recorded.items()}
        self._order = [*recorded, *others]
        self._looks = {method: _look(shown) for method, shown in recorded.items()}
        taken = {look.color for look in self._looks.values()}
        free = [entry for entry in _PALETTE if to_rgb(entry[0]) not in taken] or list(_PALETTE)
        for number, method in enumerate(others):
            color, line, marker = free[number % len(free)]
            self._looks[method] = Look(to_rgb(color), line, marker)

    def name(self, algorithm: str) -> str:
        """An algorithm's name as readers know it."""
        return self._names.get(algorithm, algorithm)

    def place(self, algorithm: str) -> int:
        """An algorithm's place in tables and legends."""
        return self._order.index(algorithm)

    def look(self, algorithm: str) -> Look:
        """An algorithm's look, without variants."""
        return self._looks[algorithm]


def _look(shown: Mapping[str, Any]) -> Look:
    line = shown["line"]
    if not isinstance(line, str):  # JSON has no tuples
        offset, dashes = line
        line = (int(offset), tuple(float(length) for length in dashes))
    return Look(to_rgb(shown["color"]), line, str(shown["marker"]))
