"""SAINT and SPIN: action queries through a transformer trunk (SPEC.md section 3, policies 3 and 4)."""

from collections.abc import Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from spin_rl.algorithms.asm.model import ActionStructureModel, ASMSizes
from spin_rl.algorithms.networks.freezing import freeze
from spin_rl.algorithms.networks.layers import SubActionHeads
from spin_rl.algorithms.networks.trunk import StateEncoder, Trunk
from spin_rl.algorithms.policies.base import FactorisedPolicy
from spin_rl.algorithms.presets import Preset


class SlotPolicy(FactorisedPolicy):
    """State tokens and N learned queries through a trunk; a head reads each query's output token.

    Trained from scratch it is SAINT. With state encoder and trunk taken from an action structure model and frozen
    (``start_from``) it is SPIN: only queries and heads train, and gradients flow through the trunk to the queries. With
    a learning rate of their own, encoder and trunk train too (``finetune``).
    """

    stackable = capturable = True

    def __init__(
        self,
        observation_size: int,
        nvec: Sequence[int],
        sizes: ASMSizes,
        trunk_rate: float | None = None,
        *,
        trunk_dropout: bool = True,
    ) -> None:
        """
        Args:
            observation_size: S.
            nvec: choices of each sub-action.
            sizes: of trunk and heads.
            trunk_rate: learning rate of a pretrained state encoder and trunk; None freezes them.
            trunk_dropout: whether dropout stays active in a pretrained trunk while the policy trains, as in the
                published implementation. It is noise on the features; without it they are exact and an update is
                cheaper.
        """
        super().__init__(nvec)
        self.state_encoder = StateEncoder(observation_size, sizes.width, sizes.state_tokens)
        self.queries = nn.Parameter(torch.randn(len(self.nvec), sizes.width))
        self.trunk = Trunk(sizes.width, sizes.heads, sizes.layers, sizes.dropout)
        self.heads = SubActionHeads(sizes.width, self.nvec, sizes.head_width, sizes.dropout)
        self.trunk_rate = trunk_rate
        self.trunk_dropout = trunk_dropout
        self._pretrained = False

    @classmethod
    def from_preset(cls, observation_size: int, nvec: Sequence[int], preset: Preset) -> Self:
        """``spin`` and ``saint``."""
        return cls(observation_size, nvec, preset.asm, trunk_dropout=preset.trunk_dropout)

    @classmethod
    def finetuned_from_preset(cls, observation_size: int, nvec: Sequence[int], preset: Preset) -> Self:
        """``finetune``."""
        rate = preset.trunk_learning_rate
        return cls(observation_size, nvec, preset.asm, rate, trunk_dropout=preset.trunk_dropout)

    def start_from(self, model: nn.Module) -> None:
        """Copy state encoder and trunk from an action structure model; they are frozen without a learning rate.

        From a clone of the policy everything is copied, and nothing frozen.
        """
        if not isinstance(model, ActionStructureModel):
            super().start_from(model)
            return
        self.state_encoder.load_state_dict(model.state_encoder.state_dict())
        self.trunk.load_state_dict(model.trunk.state_dict())
        if self.trunk_rate is None:
            freeze(self.state_encoder)
            freeze(self.trunk)
        self._pretrained = True
        self.train(self.training)

    def train(self, mode: bool = True) -> "SlotPolicy":
        super().train(mode)
        self.trunk.train(mode and (self.trunk_dropout or not self._pretrained))
        return self

    def own_rates(self) -> Mapping[nn.Parameter, float]:
        if self.trunk_rate is None:
            return {}
        return dict.fromkeys([*self.state_encoder.parameters(), *self.trunk.parameters()], self.trunk_rate)

    def logits(self, observation: Tensor) -> Tensor:
        state = self.state_encoder(observation)  # (B, M, D)
        queries = self.queries.unsqueeze(-3).expand(*state.shape[:-2], -1, -1)  # (N, D) -> (B, N, D)
        tokens = self.trunk(torch.cat([state, queries], -2))
        logits: Tensor = self.heads(tokens[..., state.shape[-2] :, :])
        return logits
