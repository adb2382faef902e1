"""Simple RGB pictures of two-dimensional worlds: boxes and dots on white."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
Box = tuple[tuple[float, float], tuple[float, float]]  # lower left and upper right, in the unit square

PAPER: Colour = (255, 255, 255)
WALL: Colour = (60, 60, 60)
GOAL: Colour = (120, 190, 120)
TRAIL: Colour = (190, 205, 235)
BODY: Colour = (40, 90, 200)
DANGER: Colour = (215, 90, 80)


class Picture:
    """The unit square at ``size`` x ``size`` pixels; y points up."""

    def __init__(self, size: int = 360) -> None:
        self.size = size
        self.pixels = np.full((size, size, 3), PAPER, np.uint8)

    def box(self, box: Box, colour: Colour) -> None:
        """Fill a box, at least one pixel."""
        (left, low), (right, high) = box
        columns, rows = self._pixels(left, right), self._pixels(1 - high, 1 - low)
        self.pixels[rows, columns] = colour

    def dots(self, points: Iterable[NDArray[np.floating]], radius: float, colour: Colour) -> None:
        """A square dot at each point (x, y)."""
        for x, y in points:
            self.box(((x - radius, y - radius), (x + radius, y + radius)), colour)

    def _pixels(self, low: float, high: float) -> slice:
        first = min(max(round(low * self.size), 0), self.size - 1)
        return slice(first, max(first + 1, min(round(high * self.size), self.size)))
