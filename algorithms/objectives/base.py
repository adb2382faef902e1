"""What objectives share: settings, optimiser steps, target networks, acting, and the loss of the critics."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from spin_rl.algorithms.batches import Batch
from spin_rl.algorithms.critics import FactoredCritic
from spin_rl.algorithms.policies import Policy

Info = dict[str, Tensor]
"""Detached scalars by metric name; reading them would synchronise the device, so that is left to the caller."""


@dataclass(frozen=True)
class ObjectiveSettings:
    """Settings of every objective (SPEC.md section 4)."""

    name: ClassVar[str]

    learning_rate: float = 3e-4
    gamma: float = 0.99
    target_rate: float = 0.005
    critic_width: int = 256
    critics: int = 2


class Objective(nn.Module):
    """A policy, a critic ensemble with its target, what else an objective trains, and the update of all of them.

    A subclass makes its further networks, ``make_optimizers`` and ``update``.
    """

    settings_class: ClassVar[type[ObjectiveSettings]]
    sampled: ClassVar[bool] = True  # whether evaluation samples actions, where nobody says
    policy_dropout: ClassVar[float] = 0.1  # of the factored policy, where nobody says

    def __init__(self, policy: Policy, observation_size: int, settings: ObjectiveSettings) -> None:
        super().__init__()
        self.settings = settings
        self.policy = policy
        sizes = (observation_size, policy.nvec, settings.critic_width, settings.critics)
        self.critic = FactoredCritic(*sizes)
        self.target_critic = FactoredCritic(*sizes)
        self.optimizers: dict[str, GradientStep] = {}

    def make_optimizers(self) -> None:
        """To be called once the modules lie on their device."""
        raise NotImplementedError

    def update(self, batch: Batch) -> Info:
        """One update, in the order of SPEC.md section 4."""
        raise NotImplementedError

    def draws(self, *, sample: bool) -> int:
        """Uniform random numbers that ``decide`` needs for one observation."""
        return self.policy.draws(sample=sample)

    def decide(self, observation: Tensor, uniforms: Tensor | None, *, sample: bool) -> Tensor:
        """Joint actions (B, N) for observations (B, S): sampled from the policy, or the best that the objective knows.

        Args:
            observation: (B, S).
            uniforms: (B, draws) in [0, 1), float64; None where there are no draws.
            sample: sample from the policy; greedy otherwise.
        """
        return self.policy.decide(observation, uniforms, sample=sample)


class GradientStep:
    """One fused Adam over some parameters."""

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        learning_rate: float,
        own_rates: Mapping[nn.Parameter, float] | None = None,
    ) -> None:
        """
        Args:
            parameters: what is trained.
            learning_rate: of all of them but
            own_rates: those that have a rate of their own.
        """
        own_rates = own_rates or {}
        groups: dict[float, list[nn.Parameter]] = {}
        for parameter in parameters:
            groups.setdefault(own_rates.get(parameter, learning_rate), []).append(parameter)
        grouped: list[dict[str, Any]] = [{"params": members, "lr": rate} for rate, members in groups.items()]
        self.optimizer = torch.optim.Adam(grouped, learning_rate, fused=True)
        self.average_gradients: Callable[[Sequence[nn.Parameter]], None] | None = None
        """Where several learners share a minibatch; called before gradients are clipped."""
        self._parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def __call__(self, loss: Tensor) -> None:
        self.optimizer.zero_grad()
        loss.backward()
        if self.average_gradients:
            self.average_gradients(self._parameters)
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


def critic_loss(q: Tensor, reward: Tensor, terminated: Tensor, next_v: Tensor, gamma: float) -> tuple[Tensor, Info]:
    """MSE of each member's Q(s, a), (E, B), to r + gamma (1 - terminated) V(s'); summed over members.

    IQL (arXiv 2110.06169 eq. 6), AWAC and BCQ differ in the next state's value (B,).
    """
    target = reward + gamma * (1.0 - terminated) * next_v
    loss = (q - target).square().mean(-1).sum()
    return loss, {"critic_loss": loss.detach(), "q": q.detach().mean()}


@contextmanager
def noiseless(policy: Policy) -> Iterator[None]:
    """The policy as it acts: without dropout and without gradients."""
    training = policy.training
    policy.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        policy.train(training)


def draw_actions(policy: Policy, features: Tensor, count: int) -> Tensor:
    """``count`` joint actions (B, K, N) for each of B states, drawn from torch's generator."""
    shape = (len(features), count, len(policy.nvec))
    return sample_actions(policy, features, torch.rand(shape, dtype=torch.float64, device=features.device))


def sample_actions(policy: Policy, features: Tensor, uniforms: Tensor) -> Tensor:
    """Joint actions (B, K, N) for what the policy reads of B states, at the quantiles ``uniforms`` (B, K, N)."""
    count = uniforms.shape[1]
    actions = policy.act(features.repeat_interleave(count, 0), uniforms.flatten(0, 1))  # (B K, N)
    return actions.unflatten(0, (-1, count))
