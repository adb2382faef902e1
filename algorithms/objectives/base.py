"""What objectives share: settings, optimiser steps, target networks, acting, and the loss of the critics."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from spin_rl.algorithms.data.batches import Batch
from spin_rl.algorithms.networks.critics import FactoredCritic
from spin_rl.algorithms.networks.precision import autocast, check_precision
from spin_rl.algorithms.objectives.gradient_step import DECAYS, GradientStep
from spin_rl.algorithms.policies import Policy
from spin_rl.errors import UserError, unknown_name

Info = dict[str, Tensor]
"""Detached scalars by metric name; reading them would synchronise the device, so that is left to the caller."""


@dataclass(frozen=True)
class ObjectiveSettings:
    """Settings of every objective (SPEC.md section 4).

    Attributes:
        learning_rate: of the first update.
        lr_decay: how it falls to 0 over ``lr_decay_updates``: ``linear`` or ``cosine``; ``constant`` does not.
        gradient_clip: largest norm of all gradients of a network (policy, critics or value) together; None: no limit.
        precision: of the networks' matrix products while they train: ``float32``, ``tf32`` (on a GPU) or ``bfloat16``.
    """

    name: ClassVar[str]

    learning_rate: float = 3e-4
    lr_decay: str = "constant"
    lr_decay_updates: int | None = None
    gradient_clip: float | None = None
    precision: str = "float32"
    gamma: float = 0.99
    target_rate: float = 0.005
    critic_width: int = 256
    critics: int = 2

    def __post_init__(self) -> None:
        check_precision(self.precision)
        if self.lr_decay not in DECAYS:
            raise unknown_name("decay of the learning rate", self.lr_decay, DECAYS)
        if self.lr_decay != "constant" and (self.lr_decay_updates is None or self.lr_decay_updates < 1):
            raise UserError(
                f"lr_decay={self.lr_decay} lets the learning rate fall to 0, lr_decay_updates={self.lr_decay_updates} "
                "does not say over how many updates: give their number, or lr_decay=constant."
            )
        if self.gradient_clip is not None and not self.gradient_clip > 0:
            raise UserError(f"gradient_clip={self.gradient_clip} is not positive; null leaves gradients as they are.")

    def rate_share(self, updates: int) -> float:
        """Share of the learning rate that an update after ``updates`` others is made with."""
        done = min(updates / self.lr_decay_updates, 1.0) if self.lr_decay_updates else 0.0
        return DECAYS[self.lr_decay](done)


class Objective(nn.Module):
    """A policy, a critic ensemble with its target, what else an objective trains, and the update of all of them.

    A subclass makes its further networks, ``make_optimizers`` and ``update``. All losses allow for a first dimension of
    seeds that are trained at once (``spin_rl.algorithms.training.seeds``): dimensions are counted from the last.
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

    def gradient_step(self, *networks: Iterable[nn.Parameter]) -> GradientStep:
        """An optimiser of ``networks``, as the settings and the policy want it."""
        settings = self.settings
        return GradientStep(
            *networks,
            learning_rate=settings.learning_rate,
            own_rates=self.policy.own_rates(),
            clip=settings.gradient_clip,
        )

    def autocast(self) -> AbstractContextManager[object]:
        """What the networks' forwards between two optimiser steps are made under, as the precision wants it."""
        return autocast(self.settings.precision, next(self.critic.parameters()).device)

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
    loss = (q - target.unsqueeze(-2)).square().mean(-1).sum(-1)
    return loss, {"critic_loss": loss.detach(), "q": q.detach().mean((-2, -1))}


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
