"""Masked action modelling (MAM): which sub-actions are hidden, and the loss on them (SPEC.md section 2)."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from spin_rl.errors import UserError


@dataclass(frozen=True)
class Masking:
    """How sub-actions are hidden from the model.

    Fixed rate (the paper): each is selected with probability ``rate``; of the selected, a share ``mask`` becomes the
    mask token, a share ``randomise`` a uniformly drawn choice, and the rest stay. Variable rate (ours): each sample
    draws its rate uniformly from (0, 1], a share ``fully_masked`` of the samples is masked wholly, and selected
    sub-actions always become the mask.
    """

    rate: float = 0.15
    mask: float = 0.8
    randomise: float = 0.1
    variable: bool = False
    fully_masked: float = 0.2

    def __post_init__(self) -> None:
        shares = min(self.mask, self.randomise) >= 0 and self.mask + self.randomise <= 1
        if not (0 < self.rate <= 1 and shares and 0 <= self.fully_masked <= 1):
            raise UserError(f"A masking rate lies in (0, 1] and its shares sum to at most 1; got {self}.")


class MaskedActions(NamedTuple):
    """The model's input tokens (B, N), and which of them it has to predict (B, N)."""

    tokens: Tensor
    selected: Tensor


def mask_actions(action: Tensor, nvec: Tensor, masking: Masking) -> MaskedActions:
    """Hide sub-actions of joint actions (B, N); token nvec[i] is sub-action i's mask. At least one is selected."""
    draw = torch.rand(action.shape, device=action.device)
    if masking.variable:
        rate = 1.0 - torch.rand(len(action), 1, device=action.device)  # (0, 1]
        whole = torch.rand(len(action), 1, device=action.device) < masking.fully_masked
        selected = _at_least_one((draw < rate) | whole, draw)
        tokens = torch.where(selected, nvec, action)
    else:
        selected = _at_least_one(draw < masking.rate, draw)
        kind = torch.rand(action.shape, device=action.device)
        drawn = (torch.rand(action.shape, device=action.device) * nvec).long()
        replaced = torch.where(kind < masking.mask, nvec, drawn)
        stays = kind >= masking.mask + masking.randomise
        tokens = torch.where(selected & ~stays, replaced, action)
    return MaskedActions(tokens, selected)


def _at_least_one(selected: Tensor, draw: Tensor) -> Tensor:
    """Select the smallest draw of the batch if nothing was; without a synchronisation."""
    lowest = draw == draw.min()
    return selected | (lowest & ~selected.any())


def masked_cross_entropy(logits: Tensor, action: Tensor, selected: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Cross-entropy (MAM) averaged over the selected sub-actions.

    Args:
        logits: (B, N, C), -inf at choices that do not exist.
        action: (B, N), the true choices.
        selected: (B, N), which of them count; at least one.
    """
    losses = functional.cross_entropy(logits.float().flatten(0, 1), action.flatten(), reduction="none")  # (B N,)
    weight = selected.flatten().float()
    loss = (losses * weight).sum() / weight.sum()
    hits = (logits.argmax(-1) == action).flatten().float()
    return loss, {"loss": loss.detach(), "accuracy": (hits * weight).sum() / weight.sum()}
