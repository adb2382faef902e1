"""Dropout that is cheap on a CPU.

torch draws one double per element on a CPU (8 ns each on our machine), which costs more than the matrix products of a
small transformer. Here four elements share one 64-bit draw: 16 of its bits decide about each.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """``torch.nn.functional.dropout``, from the same generator, with p rounded to 1/65536 on a CPU."""
    if not training or p == 0.0:
        return x
    if x.device.type != "cpu":
        return functional.dropout(x, p)
    # a product with float factors is many times faster than where() or masked_fill(), forwards and backwards
    return x * keep_factors(x, p)


def keep_factors(x: Tensor, p: float, generator: torch.Generator | None = None) -> Tensor:
    """Dropout's factors for ``x`` on a CPU: 0, or 1 / (1 - p), from torch's default generator unless one is given."""
    dropped = round(p * 65536)
    bits = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None, generator=generator)
    keep = bits.view(torch.int16)[: x.numel()] >= dropped - 32768
    return keep.float().mul_(65536 / (65536 - dropped)).view(x.shape).to(x.dtype)


class Dropout(nn.Module):
    """``torch.nn.Dropout`` with the cheap masks of this module."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"
