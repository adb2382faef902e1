"""An MLP with one output for every choice of every sub-action.

Shapes: B states, S observation size, N sub-actions, C choices.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from spin_rl.algorithms.networks.layers import missing_choices, mlp, precise


class SubActionMLP(nn.Module):
    """Observations (B, S) to values (B, N, C) by sum(nvec) outputs; ``absent`` where there is no such choice."""

    missing: Tensor
    place: Tensor

    def __init__(
        self, observation_size: int, nvec: Sequence[int], width: int, hidden_layers: int, absent: float
    ) -> None:
        """
        Args:
            observation_size: S.
            nvec: choices of each sub-action.
            width: of the hidden layers.
            hidden_layers: how many of them.
            absent: the value of choices that do not exist.
        """
        super().__init__()
        self.net = mlp((observation_size, *[width] * hidden_layers, sum(nvec)))
        missing = missing_choices(nvec)
        starts = torch.tensor([0, *nvec[:-1]]).cumsum(0)  # (N,)
        place = starts[:, None] + torch.arange(max(nvec))  # (N, C)
        self.register_buffer("missing", missing, persistent=False)
        self.register_buffer("place", place.masked_fill(missing, 0), persistent=False)
        self._absent = absent

    def forward(self, observation: Tensor) -> Tensor:
        values: Tensor = precise(self.net(observation))
        return values[:, self.place].masked_fill(self.missing, self._absent)  # (B, sum(nvec)) -> (B, N, C)
