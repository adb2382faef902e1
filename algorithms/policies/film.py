"""SAINT as its authors define it (Landers et al. 2025, arXiv 2505.12109): slots modulated by the state, then attention.

``saint`` is another network: the SPIN paper's controlled variant, which reads the state from tokens (``slots.py``).
Shapes: B states, S observation size, N sub-actions, C choices, D width, H attention heads, L blocks.
"""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from spin_rl.algorithms.networks.layers import DecisionHeads, mlp
from spin_rl.algorithms.policies.base import FactorisedPolicy
from spin_rl.algorithms.presets import Preset
from spin_rl.errors import UserError


class PostNormBlock(nn.Module):
    """Post-LayerNorm block on tokens (..., B, N, D): y = LN(q + attention), then LN(y + FFN(y)).

    The residual beside the attention is the projected query q, not x, and the heads' outputs are concatenated without
    an output projection. FFN: Linear(D, 4 D) - ReLU - Linear(4 D, 4 D) - ReLU - Linear(4 D, D). No dropout.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise UserError(f"A width of {width} cannot be divided among {heads} attention heads: change one of them.")
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attention_norm = nn.LayerNorm(width)
        self.ffn = mlp((width, 4 * width, 4 * width, width))
        self.ffn_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        # (B, N, 3 D) -> (B, N, 3, H, D / H) -> three of (B, H, N, D / H)
        mixed = self.query_key_value(x).unflatten(-1, (3, self.heads, -1))
        query, key, value = (part.transpose(-3, -2) for part in mixed.unbind(-3))
        attended = query + functional.scaled_dot_product_attention(query, key, value)
        y = self.attention_norm(attended.transpose(-3, -2).flatten(-2))  # (B, H, N, D / H) -> (B, N, D)
        out: Tensor = self.ffn_norm(y + self.ffn(y))
        return out


class FilmPolicy(FactorisedPolicy):
    """A learned vector per sub-action, modulated once by the state (FiLM), then L blocks among the sub-actions alone.

    token_i = gamma(s) * e_i + beta(s), where an MLP gives (gamma, beta) of the state, the same for every sub-action.
    The state enters nowhere else: there is no state token.
    """

    stackable = capturable = True

    def __init__(
        self,
        observation_size: int,
        nvec: Sequence[int],
        width: int = 128,
        heads: int = 1,
        layers: int = 3,
        state_width: int = 128,
        head_width: int = 256,
        head_layers: int = 2,
    ) -> None:
        """
        Args:
            observation_size: S.
            nvec: choices of each sub-action.
            width: D.
            heads: H, attention heads of a block.
            layers: L, blocks.
            state_width: of the hidden layer between state and (gamma, beta).
            head_width: of the hidden layers of a sub-action's decision MLP.
            head_layers: linear layers of that MLP.
        """
        super().__init__(nvec)
        if head_layers < 1 or layers < 1:
            raise UserError(f"{layers} blocks and decision MLPs of {head_layers} layers: both must be at least 1.")
        self.slots = nn.Parameter(torch.randn(len(self.nvec), width))
        self.film = mlp((observation_size, state_width, 2 * width))
        self.blocks = nn.ModuleList(PostNormBlock(width, heads) for _ in range(layers))
        self.heads = DecisionHeads(width, self.nvec, head_width, head_layers)

    @classmethod
    def from_preset(cls, observation_size: int, nvec: Sequence[int], preset: Preset) -> Self:
        """``saint-film``."""
        return cls(
            observation_size, nvec, preset.film_width, preset.film_heads, preset.film_layers,
            preset.film_state_width, preset.film_head_width, preset.film_head_layers,
        )  # fmt: skip

    @classmethod
    def matched_from_preset(cls, observation_size: int, nvec: Sequence[int], preset: Preset) -> Self:
        """``saint-film-matched``: width, heads and blocks of SPIN's trunk."""
        sizes = preset.asm
        return cls(
            observation_size, nvec, sizes.width, sizes.heads, sizes.layers,
            preset.film_state_width, preset.film_head_width, preset.film_head_layers,
        )  # fmt: skip

    def logits(self, observation: Tensor) -> Tensor:
        gamma, beta = self.film(observation).unsqueeze(-2).chunk(2, -1)  # (B, 2 D) -> two of (B, 1, D)
        tokens = gamma * self.slots.unsqueeze(-3) + beta  # (N, D) -> (B, N, D)
        for block in self.blocks:
            tokens = block(tokens)
        logits: Tensor = self.heads(tokens)
        return logits
