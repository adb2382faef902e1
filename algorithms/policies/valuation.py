"""Expected values and best joint actions under a critic: exact for independent sub-actions, else from samples.

Shapes: B states, N sub-actions, C choices, E critics, K sampled joint actions. ``q_EBNC`` holds Q_i(s, c) of each
critic, and ``combine`` makes Q(s, a) of the Q_i(s, a_i) of a joint action (see ``FactoredCritic.combine``).
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Combine = Callable[[Tensor, tuple[int, ...]], Tensor]
"""Reduces the given dimensions, that of sub-actions among them."""


class BestAction(NamedTuple):
    """The best admissible joint action by each critic."""

    value: Tensor  # (E, B)
    action: Tensor  # (E, B, N)


def exact_value(q_EBNC: Tensor, probabilities_BNC: Tensor, combine: Combine = torch.sum) -> Tensor:
    """sum_i sum_c pi_i(c | s) Q_i(s, c), (E, B): the expectation of Q(s, a) under independent sub-actions."""
    return combine(probabilities_BNC.unsqueeze(-4) * q_EBNC, (-2, -1))


def sampled_value(q_EBNC: Tensor, action_BKN: Tensor, combine: Combine = torch.sum) -> Tensor:
    """The mean of Q(s, a) over K sampled joint actions, (E, B)."""
    return joint_values(q_EBNC, action_BKN, combine).mean(-1)


def best_choices(q_EBNC: Tensor, logits_BNC: Tensor, threshold: float, combine: Combine = torch.sum) -> BestAction:
    """The best choice of each sub-action among those with pi_i(c | s) >= threshold max pi_i, arXiv 1910.01708.

    Args:
        q_EBNC: Q_i(s, c) of each critic.
        logits_BNC: the policy's.
        threshold: in (0, 1].
        combine: makes the joint action's value.
    """
    excluded_BNC = excluded_choices(logits_BNC, threshold)
    best_EBN = q_EBNC.masked_fill(excluded_BNC.unsqueeze(-4), -torch.inf).max(-1)
    return BestAction(combine(best_EBN.values, (-1,)), best_EBN.indices)


def excluded_choices(logits_BNC: Tensor, threshold: float) -> Tensor:
    """Whether pi_i(c | s) / max_k pi_i(k | s) < threshold, (B, N, C), as of every missing choice; arXiv 1910.01708."""
    return logits_BNC < logits_BNC.amax(-1, keepdim=True) + math.log(threshold)


def best_candidate(q_EBNC: Tensor, action_BKN: Tensor, combine: Combine = torch.sum) -> BestAction:
    """The best of K sampled joint actions, arXiv 1812.02900 without its perturbations."""
    best_EB = joint_values(q_EBNC, action_BKN, combine).max(-1)
    index = best_EB.indices[..., None, None].expand(-1, -1, 1, action_BKN.shape[-1])  # (E, B, 1, N)
    action_EBN = action_BKN.expand(len(q_EBNC), *action_BKN.shape).gather(2, index).squeeze(2)
    return BestAction(best_EB.values, action_EBN)


def joint_values(q_EBNC: Tensor, action_BKN: Tensor, combine: Combine = torch.sum) -> Tensor:
    """Q(s, a) of K joint actions for each state, (E, B, K)."""
    chosen_BNK = action_BKN.transpose(1, 2)
    return combine(q_EBNC.gather(-1, chosen_BNK.expand(len(q_EBNC), *chosen_BNK.shape)), (2,))
