"""The factored baseline: an MLP with one linear head per sub-action (SPEC.md section 3, policy 1)."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from spin_rl.algorithms.asm.model import ActionStructureModel
from spin_rl.algorithms.networks.dropout import Dropout
from spin_rl.algorithms.networks.layers import missing_choices, mlp
from spin_rl.algorithms.policies.base import FactorisedPolicy
from spin_rl.algorithms.presets import Preset


class FactoredPolicy(FactorisedPolicy):
    """Observations (B, S) to logits (B, N, C) through two hidden layers of ``width``."""

    stackable = capturable = True
    missing: Tensor

    def __init__(self, observation_size: int, nvec: Sequence[int], width: int = 256, dropout: float = 0.1) -> None:
        super().__init__(nvec)
        self.body = mlp((observation_size, width, width), dropout)
        self.dropout = Dropout(dropout)
        # all heads as one matrix, ragged ones padded
        self.heads = torch.nn.Linear(width, len(self.nvec) * max(self.nvec))
        self.register_buffer("missing", missing_choices(nvec), persistent=False)
        self._ragged = bool(self.missing.any())

    @classmethod
    def from_preset(cls, observation_size: int, nvec: Sequence[int], preset: Preset) -> Self:
        """``factored``; the objective has filled in the dropout where the preset leaves it open."""
        dropout = 0.1 if preset.policy_dropout is None else preset.policy_dropout
        return cls(observation_size, nvec, preset.policy_width, dropout)

    @classmethod
    def wide_from_preset(cls, observation_size: int, nvec: Sequence[int], preset: Preset) -> Self:
        """With as many parameters as the preset's action structure model, or just fewer."""
        return cls.from_preset(
            observation_size, nvec, replace(preset, policy_width=width_of_asm(observation_size, nvec, preset))
        )

    def logits(self, observation: Tensor) -> Tensor:
        features = self.dropout(functional.relu(self.body(observation)))
        logits: Tensor = self.heads(features).unflatten(-1, (len(self.nvec), -1))  # (B, N C) -> (B, N, C)
        return logits.masked_fill(self.missing, -torch.inf) if self._ragged else logits


def width_of_asm(observation_size: int, nvec: Sequence[int], preset: Preset) -> int:
    """The largest width at which the policy has no more parameters than the preset's action structure model."""
    with torch.random.fork_rng(devices=[]):
        asm = ActionStructureModel(observation_size, nvec, preset.asm)
    most = sum(parameter.numel() for parameter in asm.parameters())
    outputs = len(nvec) * max(nvec)
    # w (S + 1) + w (w + 1) + O (w + 1) = w^2 + b w + O, b = S + O + 2
    linear = observation_size + outputs + 2
    return max(1, int((math.isqrt(linear * linear + 4 * (most - outputs)) - linear) // 2))
