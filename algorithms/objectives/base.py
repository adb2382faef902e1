"""What the offline objectives share: their optimisers, target networks and frozen-value helpers."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

Info = dict[str, Tensor]
"""Detached scalars by metric name; reading them would synchronise the device, so that is left to the caller."""


class GradientStep:
    """One fused Adam over some modules' trainable parameters."""

    def __init__(self, parameters: Iterable[nn.Parameter], learning_rate: float) -> None:
        self.optimizer = torch.optim.Adam(list(parameters), learning_rate, fused=True)

    def __call__(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


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
