"""SAINT and SPIN: action queries through a transformer trunk (SPEC.md section 3, policies 3 and 4)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from spin_rl.algorithms.asm.model import ActionStructureModel, ASMSizes
from spin_rl.algorithms.networks.freezing import freeze
from spin_rl.algorithms.networks.layers import SubActionHeads
from spin_rl.algorithms.networks.trunk import StateEncoder, Trunk
from spin_rl.algorithms.policies.base import FactorisedPolicy


class SlotPolicy(FactorisedPolicy):
    """State tokens and N learned queries through a trunk; a head reads each query's output token.

    Trained from scratch it is SAINT. With state encoder and trunk taken from an action structure model and frozen
    (``load_asm``) it is SPIN: only queries and heads train, and gradients flow through the trunk to the queries. With a
    rate of their own they are not frozen but train too (``finetune``).
    """

    def __init__(
        self, observation_size: int, nvec: Sequence[int], sizes: ASMSizes, trunk_rate: float | None = None
    ) -> None:
        """
        Args:
            observation_size: S.
            nvec: choices of each sub-action.
            sizes: of trunk and heads.
            trunk_rate: learning rate of a state encoder and trunk that were taken over; None freezes them.
        """
        super().__init__(nvec)
        self.state_encoder = StateEncoder(observation_size, sizes.width, sizes.state_tokens)
        self.queries = nn.Parameter(torch.randn(len(self.nvec), sizes.width))
        self.trunk = Trunk(sizes.width, sizes.heads, sizes.layers, sizes.dropout)
        self.heads = SubActionHeads(sizes.width, self.nvec, sizes.head_width, sizes.dropout)
        self.trunk_rate = trunk_rate
        self.trunk_dropout = True

    def load_asm(self, asm: ActionStructureModel, *, trunk_dropout: bool) -> None:
        """Take state encoder and trunk from ``asm``, and freeze them where they have no learning rate.

        Args:
            asm: a model of the same observation size, nvec and sizes.
            trunk_dropout: whether dropout stays active in the frozen trunk while the policy trains, as in the published
                implementation. It is noise on the features; without it they are exact and an update is cheaper.
        """
        self.state_encoder.load_state_dict(asm.state_encoder.state_dict())
        self.trunk.load_state_dict(asm.trunk.state_dict())
        if self.trunk_rate is None:
            freeze(self.state_encoder)
            freeze(self.trunk)
        self.trunk_dropout = trunk_dropout
        self.train(self.training)

    def train(self, mode: bool = True) -> "SlotPolicy":
        super().train(mode)
        self.trunk.train(mode and self.trunk_dropout)
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
