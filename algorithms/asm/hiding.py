"""Masks whose weighted average is the lower bound of log p(a | s) that a masked model gives (METHODS.md 11.2).

Shapes: B samples, N sub-actions.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class Hidden(NamedTuple):
    """Which sub-actions are masked, and the weight of their cross-entropies in the bound."""

    mask: Tensor  # (B, N) bool
    weight: Tensor  # (B, 1)


def hide_at_a_rate(action: Tensor) -> Hidden:
    """Each sample draws a rate r from (0, 1] and hides each sub-action with probability r; weight 1 / r.

    The continuous-time form (Sahoo et al. 2024, arXiv 2406.07524) with a linear schedule. Weights have no limit and
    their squares no expectation: one small rate outweighs a minibatch, and Adam's steps stay short for long after it.
    """
    rate = 1.0 - torch.rand(len(action), 1, device=action.device)
    return Hidden(torch.rand(action.shape, device=action.device) < rate, 1.0 / rate)


def hide_a_number(action: Tensor) -> Hidden:
    """Each sample hides a number m drawn from 1 to N of its sub-actions, any m alike; weight N / m.

    The discrete-time form (Hoogeboom et al. 2021, arXiv 2110.02037): the expectation of ``hide_at_a_rate`` with weights
    of at most N. A set of m sub-actions counts (m - 1)! (N - m)! / N! in both: there the integral over r of
    r^(m - 1) (1 - r)^(N - m), here N / m times its probability 1 / (N binomial(N, m)).
    """
    count = action.shape[-1]
    number = 1 + (torch.rand(len(action), 1, device=action.device) * count).long()  # 1 .. N
    rank = torch.rand(action.shape, device=action.device).argsort(-1).argsort(-1)
    return Hidden(rank < number, count / number)


HIDING: Mapping[str, Callable[[Tensor], Hidden]] = {"rate": hide_at_a_rate, "number": hide_a_number}
"""How masks are drawn in training."""
