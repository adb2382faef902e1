"""The action structure model (ASM): a transformer over state tokens and masked sub-action tokens (SPEC.md 2)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from spin_rl.algorithms.networks.layers import SubActionHeads
from spin_rl.algorithms.networks.trunk import StateEncoder, Trunk


@dataclass(frozen=True)
class ASMSizes:
    """Sizes of the network; the defaults are the paper's."""

    width: int = 256
    heads: int = 4
    layers: int = 3
    state_tokens: int = 1
    head_width: int = 128
    dropout: float = 0.1

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


TRUNK_SIZES = ("width", "heads", "layers", "state_tokens")
"""The sizes of state encoder and trunk, which a policy copies."""


class ActionStructureModel(nn.Module):
    """Predicts each sub-action from the state and from the sub-actions that are not masked.

    Observations (B, S) and tokens (B, N), where token nvec[i] is sub-action i's mask, to logits (B, N, C).
    """

    mask_tokens: Tensor
    _rows: Tensor

    def __init__(self, observation_size: int, nvec: Sequence[int], sizes: ASMSizes) -> None:
        super().__init__()
        self.observation_size = observation_size
        self.nvec = tuple(nvec)
        self.sizes = sizes
        self.state_encoder = StateEncoder(observation_size, sizes.width, sizes.state_tokens)
        # the tables of all sub-actions, one after the other: nvec[i] choices and the mask
        self.embeddings = nn.Embedding(sum(self.nvec) + len(self.nvec), sizes.width)
        self.trunk = Trunk(sizes.width, sizes.heads, sizes.layers, sizes.dropout)
        self.heads = SubActionHeads(sizes.width, self.nvec, sizes.head_width, sizes.dropout)
        counts = torch.tensor(self.nvec)
        self.register_buffer("mask_tokens", counts, persistent=False)  # (N,)
        self.register_buffer("_rows", torch.cumsum(counts + 1, 0) - (counts + 1), persistent=False)

    def forward(self, observation: Tensor, tokens: Tensor) -> Tensor:
        logits: Tensor = self.heads(self.mix(observation, self.embed(tokens)))
        return logits

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings (B, N, D) of tokens (B, N)."""
        return functional.embedding(tokens + self._rows, self.embeddings.weight)

    def mix(self, observation: Tensor, sub_actions: Tensor) -> Tensor:
        """The trunk's output tokens (B, N, D) for sub-action tokens (B, N, D) beside the state's."""
        return self.attend(self.state_encoder(observation), sub_actions)

    def attend(self, state: Tensor, sub_actions: Tensor) -> Tensor:
        """The trunk's output tokens (B, N, D) for sub-action tokens (B, N, D) beside state tokens (B, M, D)."""
        mixed: Tensor = self.trunk(torch.cat([state, sub_actions], 1))
        return mixed[:, state.shape[1] :]

    def mask_embeddings(self) -> Tensor:
        """The mask's embedding of each sub-action, (N, D)."""
        return functional.embedding(self.mask_tokens + self._rows, self.embeddings.weight)
