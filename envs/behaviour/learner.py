"""The interface between a behaviour training and the algorithm that learns in it."""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from spin_rl.envs.behaviour.network import DecoupledQ


class Learner(Protocol):
    """Networks and the rule that updates them from transitions. Tensors are on the learner's device."""

    @property
    def network(self) -> DecoupledQ:
        """The acting network: each sub-action takes the choice with the largest output, or samples from the outputs."""

    def initialize_from(self, tensors: Mapping[str, Tensor]) -> None:
        """Replace initial values by those in ``tensors``, which holds at least the keys under ``network.``."""

    def begin_round(self, learning_rate: float, seed: int) -> None:
        """Prepare for a round of updates; the random numbers that they draw are a function of ``seed``."""

    def track(self, observations: Tensor, batches: int) -> None:
        """Include new observations (..., S) in the centring and scaling; see ``DecoupledQ.track``."""

    def update(
        self, observation: Tensor, action: Tensor, returns: Tensor, discount: Tensor, next_observation: Tensor
    ) -> Tensor:
        """Learn from B transitions over n steps.

        Args:
            observation: (B, S).
            action: (B, N), indices of choices.
            returns: (B,), discounted sums of the rewards until ``next_observation``.
            discount: (B,), of the value of ``next_observation``.
            next_observation: (B, S), n steps later.

        Returns:
            The loss, a scalar.
        """

    def measures(self) -> dict[str, float]:
        """Measurements of the round's last update for the learning curve, by name."""

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a checkpoint needs; to be called between rounds."""

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what ``tensors`` returned."""


def strip_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors with names that begin with ``prefix``, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def polyak(target: nn.Module, network: nn.Module, rate: float) -> None:
    """Move a target network's parameters towards the network's: target += rate * (network - target)."""
    with torch.no_grad():
        torch._foreach_lerp_(list(target.parameters()), list(network.parameters()), rate)
