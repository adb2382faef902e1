"""Policies on constant features: heads on the tokens of a frozen extractor (SPEC.md section 3, policy 5, and ours)."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from spin_rl.algorithms.asm.model import ActionStructureModel, ASMSizes
from spin_rl.algorithms.networks.layers import SubActionHeads
from spin_rl.algorithms.policies.base import FactorisedPolicy


class ConstantFeaturesPolicy(FactorisedPolicy):
    """A head per sub-action on its token of ``features`` (B, N, D), which do not change while the policy trains."""

    stackable = capturable = True
    queries: Tensor

    def __init__(self, nvec: Sequence[int], sizes: ASMSizes) -> None:
        super().__init__(nvec)
        self.register_buffer("queries", torch.randn(len(self.nvec), sizes.width))  # (N, D)
        self.heads = SubActionHeads(sizes.width, self.nvec, sizes.head_width, sizes.dropout)

    def start_from(self, model: nn.Module) -> None:
        asm = cast(ActionStructureModel, model)
        self.queries.copy_(asm.mask_embeddings().detach())

    def logits(self, features: Tensor) -> Tensor:
        logits: Tensor = self.heads(features)
        return logits
