"""Behaviour prior representation: heads on the features of a frozen clone (arXiv 2211.00863, discrete sub-actions)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Self, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from spin_rl.algorithms.networks.freezing import copy_parameters, freeze
from spin_rl.algorithms.networks.layers import DecisionHeads, SubActionHeads, mlp
from spin_rl.algorithms.policies.base import FactorisedPolicy
from spin_rl.algorithms.policies.factored import FactoredPolicy, width_of_asm
from spin_rl.algorithms.presets import Preset


class BPRPolicy(FactorisedPolicy):
    """Heads on phi(s) (B, W), the last hidden layer of a cloned factored policy, which does not train.

    The heads are SPIN's, so that SPIN on cached features differs from this in the encoder alone; ``head_width`` None
    makes them linear, as those that phi was cloned with. Only the policy reads phi: critics and values read the state,
    as SPIN's do. (In the paper every network of the downstream algorithm reads phi.)
    """

    stackable = capturable = True

    def __init__(
        self,
        observation_size: int,
        nvec: Sequence[int],
        width: int = 256,
        head_width: int | None = 128,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(nvec)
        self.encoder = mlp((observation_size, width, width))
        freeze(self.encoder)
        self.heads = (
            DecisionHeads(width, self.nvec, hidden=0, layers=1)
            if head_width is None
            else SubActionHeads(width, self.nvec, head_width, dropout)
        )

    @classmethod
    def from_preset(cls, observation_size: int, nvec: Sequence[int], preset: Preset) -> Self:
        """``bpr``; the objective has filled in the dropout where the preset leaves it open."""
        head_width = None if preset.bpr_linear_heads else preset.asm.head_width
        dropout = 0.1 if preset.policy_dropout is None else preset.policy_dropout
        return cls(observation_size, nvec, preset.policy_width, head_width, dropout)

    @classmethod
    def wide_from_preset(cls, observation_size: int, nvec: Sequence[int], preset: Preset) -> Self:
        """``bpr-wide``: phi is of a clone with the action structure model's number of parameters."""
        width = width_of_asm(observation_size, nvec, preset)
        return cls.from_preset(observation_size, nvec, replace(preset, policy_width=width))

    def start_from(self, model: nn.Module) -> None:
        """Copy the hidden layers of a cloned factored policy; the heads stay fresh."""
        copy_parameters(cast(FactoredPolicy, model).body, self.encoder)

    @torch.no_grad()
    def features(self, observation: Tensor) -> Tensor:
        """phi(s), (B, W), without dropout."""
        return functional.relu(self.encoder(observation))

    def logits(self, features: Tensor) -> Tensor:
        tokens = features.unsqueeze(-2).expand(*features.shape[:-1], len(self.nvec), -1)  # (B, W) -> (B, N, W)
        logits: Tensor = self.heads(tokens)
        return logits
