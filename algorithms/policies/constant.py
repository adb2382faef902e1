"""SPIN on constant features: heads on what a frozen extractor makes of a state (SPEC.md section 3, 5 and our own)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from spin_rl.algorithms.asm.model import ActionStructureModel, ASMSizes
from spin_rl.algorithms.networks.freezing import freeze
from spin_rl.algorithms.networks.layers import SubActionHeads
from spin_rl.algorithms.networks.trunk import StateEncoder, Trunk
from spin_rl.algorithms.policies.base import FactorisedPolicy


class ConstantFeaturesPolicy(FactorisedPolicy):
    """A head per sub-action on a token (B, N, D) that does not change while the policy trains.

    Reads tokens, as ``features`` gives them, or observations, whose tokens it computes itself.
    """

    queries: Tensor

    def __init__(self, nvec: Sequence[int], sizes: ASMSizes) -> None:
        super().__init__(nvec)
        self.register_buffer("queries", torch.randn(len(self.nvec), sizes.width))  # (N, D)
        self.heads = SubActionHeads(sizes.width, self.nvec, sizes.head_width, sizes.dropout)

    def load_asm(self, asm: ActionStructureModel) -> None:
        """Take over what the features are made from."""
        self.queries.copy_(asm.mask_embeddings().detach())

    def logits(self, features: Tensor) -> Tensor:
        are_tokens = features.dim() == (3 if self.seeds is None else 4)
        logits: Tensor = self.heads(features if are_tokens else self.features(features))
        return logits


class CachedPolicy(ConstantFeaturesPolicy):
    """``spin-cached``: the tokens that a frozen action structure model gives where every sub-action is masked."""

    def __init__(self, observation_size: int, nvec: Sequence[int], sizes: ASMSizes) -> None:
        super().__init__(nvec, sizes)
        self.state_encoder = StateEncoder(observation_size, sizes.width, sizes.state_tokens)
        self.trunk = Trunk(sizes.width, sizes.heads, sizes.layers, sizes.dropout)
        freeze(self.state_encoder)
        freeze(self.trunk)

    def load_asm(self, asm: ActionStructureModel) -> None:
        super().load_asm(asm)
        self.state_encoder.load_state_dict(asm.state_encoder.state_dict())
        self.trunk.load_state_dict(asm.trunk.state_dict())

    def train(self, mode: bool = True) -> "CachedPolicy":
        super().train(mode)
        self.trunk.eval()  # a constant has no dropout in it
        return self

    @torch.no_grad()
    def features(self, observation: Tensor) -> Tensor:
        state = self.state_encoder(observation)  # (B, M, D)
        queries = self.queries.expand(len(observation), *self.queries.shape)  # (B, N, D)
        tokens: Tensor = self.trunk(torch.cat([state, queries], 1))
        return tokens[:, state.shape[1] :]


class DistilledPolicy(ConstantFeaturesPolicy):
    """``spin-distill``: the tokens of a student without attention, once it is trained to give the trunk's."""

    trained: Tensor

    def __init__(self, observation_size: int, nvec: Sequence[int], sizes: ASMSizes, student_width: int = 256) -> None:
        super().__init__(nvec, sizes)
        self.student = Student(observation_size, sizes.width, student_width)
        freeze(self.student)
        self.register_buffer("trained", torch.zeros((), dtype=torch.int64))  # distillation steps made

    @torch.no_grad()
    def features(self, observation: Tensor) -> Tensor:
        tokens: Tensor = self.student(observation, self.queries)
        return tokens


class Student(nn.Module):
    """g(s, Q): observations (B, S) and queries (N, D) to tokens (B, N, D), each from (s, its query) alone."""

    def __init__(self, observation_size: int, token_width: int, width: int) -> None:
        super().__init__()
        self.state = nn.Linear(observation_size, width)
        self.query = nn.Linear(token_width, width, bias=False)
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, token_width)

    def forward(self, observation: Tensor, queries: Tensor) -> Tensor:
        # a linear layer on (s, q) is the sum of one on s and one on q
        x = self.state(observation).unsqueeze(-2) + self.query(queries).unsqueeze(-3)  # (B, N, width)
        # as the trunk's tokens are the queries and what its blocks added to them
        return queries + self.outer(functional.gelu(self.inner(functional.gelu(x))))  # (B, N, D)
