"""The transformer trunk of the action structure model (SPEC.md section 2), shared by SAINT and SPIN."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from spin_rl.algorithms.networks.dropout import Dropout


class Block(nn.Module):
    """Pre-LayerNorm block on tokens (..., B, T, D): x += dropout(out(attention(LN(x)))), then x += FFN(LN(x))."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.ffn_norm = nn.LayerNorm(width)
        self.ffn = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), Dropout(dropout), nn.Linear(2 * width, width), Dropout(dropout)
        )
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.out(self._attend(self.attention_norm(x))))
        return x + self.ffn(self.ffn_norm(x))

    def _attend(self, x: Tensor) -> Tensor:
        # (B, T, 3 D) -> (B, T, 3, H, D / H) -> three of (B, H, T, D / H)
        mixed = self.query_key_value(x).unflatten(-1, (3, self.heads, -1))
        query, key, value = (part.transpose(-3, -2) for part in mixed.unbind(-3))
        dropout = self.dropout.p if self.dropout.training else 0.0
        if query.device.type == "cpu" and (dropout or query.dtype == torch.bfloat16):
            # torch's fused kernel draws slow dropout masks on a CPU and is 2 to 6 times slower than this in bfloat16
            scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
            attended = self.dropout(scores.softmax(-1).to(value.dtype)) @ value
        else:
            attended = functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        return attended.transpose(-3, -2).flatten(-2)  # (B, H, T, D / H) -> (B, T, D)


class Trunk(nn.Module):
    """L blocks; tokens (..., B, T, D) to the same shape. No positional encoding: content distinguishes tokens."""

    def __init__(self, width: int = 256, heads: int = 4, layers: int = 3, dropout: float = 0.1) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))

    def forward(self, tokens: Tensor) -> Tensor:
        for block in self.blocks:
            tokens = block(tokens)
        return tokens


class StateEncoder(nn.Module):
    """Observation (..., B, S) to state tokens (..., B, M, D): Linear(S, 2 D) - GELU - Linear(2 D, M D)."""

    def __init__(self, observation_size: int, width: int, state_tokens: int) -> None:
        super().__init__()
        self.state_tokens = state_tokens
        self.net = nn.Sequential(
            nn.Linear(observation_size, 2 * width), nn.GELU(), nn.Linear(2 * width, state_tokens * width)
        )

    def forward(self, observation: Tensor) -> Tensor:
        tokens: Tensor = self.net(observation).unflatten(-1, (self.state_tokens, -1))  # (B, M D) -> (B, M, D)
        return tokens
