"""What a behaviour training asks of the algorithm that learns in it."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from spin_rl.envs.behaviour.network import DecoupledQ


class Learner(Protocol):
    """Networks, and how they are moved by transitions. Tensors are on its device."""

    @property
    def network(self) -> DecoupledQ:
        """What acts: each sub-action does what has the greatest output, or is drawn by them."""

    def begin_with(self, tensors: Mapping[str, Tensor]) -> None:
        """Take these, of those that ``tensors`` gives, instead of the first ones: ``network.`` at least."""

    def begin_round(self, learning_rate: float, seed: int) -> None:
        """What a round's updates draw is a function of ``seed``."""

    def track(self, observations: Tensor, batches: int) -> None:
        """Centre and scale by new observations (..., S), too; see ``DecoupledQ.track``."""

    def update(self, observation: Tensor, action: Tensor, returns: Tensor, discount: Tensor, then: Tensor) -> Tensor:
        """Learn from B transitions over n steps; the loss.

        Args:
            observation: (B, S).
            action: (B, N), indices of choices.
            returns: (B,), discounted sums of the rewards until ``then``.
            discount: (B,), of what comes after.
            then: (B, S), the observations n steps on.
        """

    def measures(self) -> dict[str, float]:
        """Of the round's last update, for the curve; by what they are called there."""

    def tensors(self) -> dict[str, Tensor]:
        """All that a checkpoint needs, between rounds."""

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what ``tensors`` gave."""


def within(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin with ``prefix``, by what follows it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def polyak(target: nn.Module, network: nn.Module, rate: float) -> None:
    """Move a target network's parameters by ``rate`` of the way to the network's."""
    with torch.no_grad():
        torch._foreach_lerp_(list(target.parameters()), list(network.parameters()), rate)
