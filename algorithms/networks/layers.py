"""Building blocks shared by policies, critics and the action structure model."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from spin_rl.algorithms.networks.dropout import Dropout


def mlp(sizes: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """Linear layers of the given sizes with ReLU (and dropout) between them, none after the last."""
    layers: list[nn.Module] = []
    for index, (size, next_size) in enumerate(pairwise(sizes)):
        if index:
            layers += [nn.ReLU(), Dropout(dropout)] if dropout else [nn.ReLU()]
        layers.append(nn.Linear(size, next_size))
    return nn.Sequential(*layers)


def precise(x: Tensor) -> Tensor:
    """``x`` in float32 at least: in half precision a softmax loses the rare choices, and a sum its smaller terms."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


class BatchedLinear(nn.Module):
    """G independent linear layers as one batched matrix product: (G, B, I) to (G, B, O).

    Each of the G starts as ``nn.Linear`` does.
    """

    def __init__(self, groups: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(groups, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(groups, 1, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias.to(x.dtype), x, self.weight.to(x.dtype))


class SubActionHeads(nn.Module):
    """One head per sub-action: Linear(D, hidden) - GELU - dropout - Linear(hidden, nvec[i]), ragged ones padded.

    Token features (..., B, N, D) to logits (..., B, N, C), -inf at choices that do not exist.
    """

    missing: Tensor

    def __init__(self, features: int, nvec: Sequence[int], hidden: int = 128, dropout: float = 0.1) -> None:
        super().__init__()
        self.inner = BatchedLinear(len(nvec), features, hidden)
        self.outer = BatchedLinear(len(nvec), hidden, max(nvec))
        self.dropout = Dropout(dropout)
        self.register_buffer("missing", missing_choices(nvec), persistent=False)
        self._ragged = bool(self.missing.any())

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.dropout(functional.gelu(self.inner(tokens.transpose(-3, -2))))  # (B, N, D) -> (N, B, hidden)
        logits: Tensor = self.outer(hidden).transpose(-3, -2)  # (N, B, C) -> (B, N, C)
        return logits.masked_fill(self.missing, -torch.inf) if self._ragged else logits


class DecisionHeads(nn.Module):
    """An MLP per sub-action with ReLU between its layers: tokens (..., B, N, D) to logits (..., B, N, C).

    Ragged ones are padded: logits of choices that do not exist are -inf.
    """

    missing: Tensor

    def __init__(self, features: int, nvec: Sequence[int], hidden: int, layers: int) -> None:
        super().__init__()
        sizes = (features, *[hidden] * (layers - 1), max(nvec))
        self.layers = nn.ModuleList(BatchedLinear(len(nvec), inputs, outputs) for inputs, outputs in pairwise(sizes))
        self.register_buffer("missing", missing_choices(nvec), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = tokens.transpose(-3, -2)  # (B, N, D) -> (N, B, D)
        for layer in self.layers[:-1]:
            x = functional.relu(layer(x))
        logits: Tensor = self.layers[-1](x).transpose(-3, -2)  # (N, B, C) -> (B, N, C)
        return logits.masked_fill(self.missing, -torch.inf)


def missing_choices(nvec: Sequence[int]) -> Tensor:
    """Mask (N, C) that is True where sub-action i has no choice c."""
    return torch.arange(max(nvec)) >= torch.tensor(list(nvec))[:, None]
