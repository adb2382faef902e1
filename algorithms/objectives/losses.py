"""The critics' loss, and the slowly moving copies that its targets come from.

Shapes: B states, E critics.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

Info = dict[str, Tensor]
"""Detached scalars by metric name; the caller reads them, as that synchronises the device."""

REGRESSIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "squared": torch.square,
    "huber": lambda error: functional.huber_loss(error, torch.zeros_like(error), reduction="none"),
}
"""Losses of single errors."""


def td_errors(q_EB: Tensor, reward: Tensor, terminated: Tensor, next_v_B: Tensor, gamma: float) -> Tensor:
    """Each member's Q(s, a) - (r + gamma (1 - terminated) V(s')), (E, B)."""
    target_B = reward + gamma * (1.0 - terminated) * next_v_B
    return q_EB - target_B.unsqueeze(-2)


def critic_loss(
    q_EB: Tensor,
    reward: Tensor,
    terminated: Tensor,
    next_v_B: Tensor,
    gamma: float,
    regression: Callable[[Tensor], Tensor] = torch.square,
) -> tuple[Tensor, Info]:
    """Mean loss of each member's Q(s, a) - (r + gamma (1 - terminated) V(s')), summed over members.

    IQL (arXiv 2110.06169 eq. 6), AWAC and BCQ differ in the next state's value.
    """
    loss = regression(td_errors(q_EB, reward, terminated, next_v_B, gamma)).mean(-1).sum(-1)
    return loss, {"critic_loss": loss.detach(), "q": q_EB.detach().mean((-2, -1))}


class Target:
    """A module's slowly moving copy: target += rate (online - target) after every update."""

    def __init__(self, online: nn.Module, copy: nn.Module, rate: float) -> None:
        copy.load_state_dict(online.state_dict())
        for parameter in copy.parameters():
            parameter.requires_grad_(False)
        self.module = copy
        self._copy: list[Tensor] = list(copy.parameters())
        self._online: list[Tensor] = list(online.parameters())
        self._rate = rate

    @torch.no_grad()
    def update(self) -> None:
        torch._foreach_lerp_(self._copy, self._online, self._rate)
