"""Prioritised replay (Schaul et al. 2016, arXiv 1511.05952) over a dataset: alpha 1, without importance weights."""

import torch
from torch import Tensor

from spin_rl.algorithms.objectives.data_buffers import DataBuffers

_LEAST = 1e-8
"""Added to every error, so that each transition can be drawn again."""


class Priorities(DataBuffers):
    """A priority for each of the M transitions: 1 until it is drawn, its absolute error after that.

    Draws come from torch's generator, so that a resumed run draws the same. A draw sums all priorities: 20 microseconds
    for the 10,000 transitions that this was published with, 2 milliseconds for a million.
    """

    sized_by_data = ("priority",)
    priority: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("priority", torch.ones(0, dtype=torch.float64))

    def prepare(self, size: int) -> None:
        """Make priorities for M transitions; those of a restored state stay."""
        if len(self.priority) != size:
            self.priority = self.priority.new_ones(size)

    def draw(self, count: int) -> Tensor:
        """Numbers (count,) of transitions, each drawn with a probability proportional to its priority."""
        cumulative = self.priority.cumsum(0)
        uniform = torch.rand(count, dtype=cumulative.dtype, device=cumulative.device)
        # the total may round to less than the last quantile
        return torch.searchsorted(cumulative, uniform * cumulative[-1], right=True).clamp_(max=len(cumulative) - 1)

    def set(self, indices: Tensor, error: Tensor) -> None:
        """Give the transitions numbered ``indices`` (B,) the priorities of their errors (B,)."""
        self.priority[indices] = error.detach().abs().to(self.priority.dtype) + _LEAST
