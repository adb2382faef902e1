"""Factored critics and the value network (SPEC.md section 4).

Shapes: B states, S observation size, N sub-actions, C choices, E critics.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from spin_rl.algorithms.networks.layers import BatchedLinear, mlp, precise
from spin_rl.errors import unknown_name

DECOMPOSITIONS = ("sum", "mean")
"""How Q(s, a) is made of the Q_i(s, a_i) of the sub-actions."""


class FactoredCritic(nn.Module):
    """An ensemble of E MLPs from a state to a value of every choice of every sub-action.

    Observations (B, S) to values (E, B, N, C); entries of choices that do not exist have no meaning.
    """

    def __init__(
        self,
        observation_size: int,
        nvec: Sequence[int],
        width: int = 256,
        members: int = 2,
        decomposition: str = "sum",
    ) -> None:
        """
        Args:
            observation_size: S.
            nvec: choices of each sub-action.
            width: of the two hidden layers.
            members: E.
            decomposition: ``sum`` or ``mean`` over the sub-actions.
        """
        super().__init__()
        if decomposition not in DECOMPOSITIONS:
            raise unknown_name("decomposition", decomposition, DECOMPOSITIONS)
        self.nvec = tuple(nvec)
        self.decomposition = decomposition
        sizes = (observation_size, width, width, len(self.nvec) * max(self.nvec))
        self.members = members
        self.layers = nn.ModuleList(BatchedLinear(members, inputs, outputs) for inputs, outputs in pairwise(sizes))

    def forward(self, observation: Tensor) -> Tensor:
        *seeds, count, size = observation.shape
        x = observation.unsqueeze(-3).expand(*seeds, self.members, count, size)  # (E, B, S)
        for layer in self.layers[:-1]:
            x = functional.relu(layer(x), inplace=True)
        values: Tensor = self.layers[-1](x).unflatten(-1, (len(self.nvec), -1))  # (E, B, N C) -> (E, B, N, C)
        return precise(values)

    def joint_value(self, observation: Tensor, action: Tensor) -> Tensor:
        """Q(s, a) of each member, (E, B), for joint actions (B, N)."""
        return self.combine(chosen(self(observation), action), (-1,))

    def combine(self, terms: Tensor, dim: tuple[int, ...]) -> Tensor:
        """Q(s, a) from its terms Q_i(s, a_i): their sum over ``dim``, or their mean over the N sub-actions."""
        total = terms.sum(dim)
        return total / len(self.nvec) if self.decomposition == "mean" else total


def chosen(q_EBNC: Tensor, action: Tensor) -> Tensor:
    """Q_i(s, a_i) of each member, (E, B, N), for joint actions (B, N)."""
    index = action.unsqueeze(-3).unsqueeze(-1).expand(*q_EBNC.shape[:-1], 1)
    return q_EBNC.gather(-1, index).squeeze(-1)


class ValueNetwork(nn.Module):
    """V(s): observations (B, S) to (B,)."""

    def __init__(self, observation_size: int, width: int = 256) -> None:
        super().__init__()
        self.net = mlp((observation_size, width, width, 1))

    def forward(self, observation: Tensor) -> Tensor:
        values: Tensor = self.net(observation).squeeze(-1)
        return precise(values)
