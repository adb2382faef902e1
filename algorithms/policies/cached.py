"""SPIN on cached features: the frozen trunk's tokens of every state, computed once (SPEC.md section 3, our own)."""

from collections.abc import Sequence
from typing import Self, cast

import torch
from torch import Tensor, nn

from spin_rl.algorithms.asm.model import ActionStructureModel, ASMSizes
from spin_rl.algorithms.data.batches import DeviceTransitions
from spin_rl.algorithms.data.features import FeatureStorage, make_table
from spin_rl.algorithms.networks.freezing import freeze, frozen_digest
from spin_rl.algorithms.networks.trunk import StateEncoder, Trunk
from spin_rl.algorithms.policies.base import Preparation
from spin_rl.algorithms.policies.constant import ConstantFeaturesPolicy
from spin_rl.algorithms.presets import Preset


class CachedPolicy(ConstantFeaturesPolicy):
    """Heads on the tokens that a frozen action structure model gives with every sub-action masked."""

    prepares_once = True

    def __init__(self, observation_size: int, nvec: Sequence[int], sizes: ASMSizes) -> None:
        super().__init__(nvec, sizes)
        self.state_encoder = StateEncoder(observation_size, sizes.width, sizes.state_tokens)
        self.trunk = Trunk(sizes.width, sizes.heads, sizes.layers, sizes.dropout)
        freeze(self.state_encoder)
        freeze(self.trunk)

    @classmethod
    def from_preset(cls, observation_size: int, nvec: Sequence[int], preset: Preset) -> Self:
        """``spin-cached``."""
        return cls(observation_size, nvec, preset.asm)

    def start_from(self, model: nn.Module) -> None:
        super().start_from(model)
        asm = cast(ActionStructureModel, model)
        self.state_encoder.load_state_dict(asm.state_encoder.state_dict())
        self.trunk.load_state_dict(asm.trunk.state_dict())

    def prepare(
        self, data: DeviceTransitions, asm: ActionStructureModel | None, storage: FeatureStorage, seed: int
    ) -> Preparation:
        """Compute the features of every state of the dataset, or find them in the storage."""
        table = make_table(self.features, frozen_digest(self), data.observations, data.digest, storage)
        return Preparation(table.seconds, table)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.trunk.eval()  # dropout would make the features random
        return self

    @torch.no_grad()
    def features(self, observation: Tensor) -> Tensor:
        state = self.state_encoder(observation)  # (B, M, D)
        queries = self.queries.expand(len(observation), *self.queries.shape)  # (B, N, D)
        tokens: Tensor = self.trunk(torch.cat([state, queries], 1))
        return tokens[:, state.shape[1] :]
