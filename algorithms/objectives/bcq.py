"""Batch-constrained Q-learning (Fujimoto et al. 2019, arXiv 1812.02900; discrete: 1910.01708) with a factored critic.

SPEC.md section 4. The policy clones the behaviour, and only says which choices are admissible; the critic chooses.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from spin_rl.algorithms.data.batches import Batch
from spin_rl.algorithms.networks.freezing import trainable
from spin_rl.algorithms.objectives.base import (
    Info,
    Objective,
    ObjectiveSettings,
    Target,
    critic_loss,
    draw_actions,
    noiseless,
    sample_actions,
)
from spin_rl.algorithms.policies import FactorisedPolicy, Policy
from spin_rl.errors import UserError


@dataclass(frozen=True)
class BCQSettings(ObjectiveSettings):
    """Settings of BCQ; the defaults are the paper's.

    Attributes:
        threshold: a choice is admissible if its probability is at least this share of the likeliest one's.
        candidates: joint actions sampled from a policy that does not factorise, of which the best is taken.
    """

    name = "bcq"

    threshold: float = 0.3
    candidates: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.threshold <= 1 or self.candidates < 1:
            raise UserError(
                f"threshold={self.threshold} must lie in (0, 1] and candidates={self.candidates} be at least 1."
            )


class BCQ(Objective):
    """Critic ensemble and policy, and the update of both.

    Where the descriptions leave a choice: the target critic both chooses and values the next joint action, what is
    admissible comes from the policy as it acts (without dropout), and the "minimum member" of an action is the one
    whose best admissible joint action has the lowest value, as in the next state's value.
    """

    settings_class = BCQSettings
    settings: BCQSettings
    sampled = False
    policy_dropout = 0.0

    def __init__(self, policy: Policy, observation_size: int, settings: BCQSettings) -> None:
        super().__init__(policy, observation_size, settings)
        self._target = Target(self.critic, self.target_critic, settings.target_rate)

    def make_optimizers(self) -> None:
        self.optimizers = {
            "actor": self.gradient_step(trainable(self.policy)),
            "critic": self.gradient_step(self.critic.parameters()),
        }

    def update(self, batch: Batch) -> Info:
        """One update, in SPEC.md's order: actor, critic with what that actor admits, target."""
        settings = self.settings
        with self.autocast():
            log_prob = self.policy.log_probs(batch.features, batch.action).sum(-1)
        pi_loss, pi_info = actor_loss(log_prob)
        self.optimizers["actor"](pi_loss)

        with noiseless(self.policy), self.autocast():
            next_values = self.target_critic(batch.next_observation)
            if isinstance(self.policy, FactorisedPolicy):
                best = best_choices(next_values, self.policy.logits(batch.next_features), settings.threshold)
            else:
                best = best_candidate(next_values, draw_actions(self.policy, batch.next_features, settings.candidates))
        with self.autocast():
            q = self.critic.joint_value(batch.observation, batch.action)
        q_loss, q_info = critic_loss(q, batch.reward, batch.terminated, best.value.amin(-2), settings.gamma)
        self.optimizers["critic"](q_loss)

        self._target.update()
        return q_info | pi_info

    def draws(self, *, sample: bool) -> int:
        if sample or isinstance(self.policy, FactorisedPolicy):
            return super().draws(sample=sample)
        return self.settings.candidates * len(self.policy.nvec)

    def decide(self, observation: Tensor, uniforms: Tensor | None, *, sample: bool) -> Tensor:
        """The best admissible joint actions by the member that values them least, or samples of the behaviour."""
        if sample:
            return super().decide(observation, uniforms, sample=sample)
        features, values = self.policy.features(observation), self.critic(observation)
        if isinstance(self.policy, FactorisedPolicy):
            best = best_choices(values, self.policy.logits(features), self.settings.threshold)
        else:
            assert uniforms is not None
            shape = (self.settings.candidates, len(self.policy.nvec))
            best = best_candidate(values, sample_actions(self.policy, features, uniforms.unflatten(-1, shape)))
        member = best.value.argmin(0)  # (B,)
        return best.action[member, torch.arange(len(member), device=member.device)]


class Best(NamedTuple):
    """The best admissible joint actions by each member of the ensemble."""

    value: Tensor  # (E, B)
    action: Tensor  # (E, B, N)


def best_choices(values: Tensor, logits: Tensor, threshold: float) -> Best:
    """sum_i max over admissible c of Q_i(s, c): those with pi_i(c | s) >= threshold max pi_i, arXiv 1910.01708.

    Args:
        values: Q_i(s, c) by each member, (E, B, N, C).
        logits: of a policy that factorises, (B, N, C).
        threshold: in (0, 1].
    """
    excluded = logits < logits.amax(-1, keepdim=True) + math.log(threshold)
    best = values.masked_fill(excluded.unsqueeze(-4), -torch.inf).max(-1)  # (E, B, N)
    return Best(best.values.sum(-1), best.indices)


def best_candidate(values: Tensor, candidates: Tensor) -> Best:
    """max over K sampled joint actions (B, K, N) of sum_i Q_i(s, a_i), arXiv 1812.02900 without its perturbations."""
    chosen = candidates.transpose(1, 2)  # (B, N, K)
    best = values.gather(-1, chosen.expand(len(values), *chosen.shape)).sum(2).max(-1)  # (E, B, K) -> (E, B)
    index = best.indices[..., None, None].expand(-1, -1, 1, candidates.shape[-1])  # (E, B, 1, N)
    action = candidates.expand(len(values), *candidates.shape).gather(2, index).squeeze(2)
    return Best(best.values, action)


def actor_loss(log_prob: Tensor) -> tuple[Tensor, Info]:
    """Behaviour cloning -log pi(a | s), arXiv 1910.01708."""
    loss = -log_prob.mean(-1)
    return loss, {"actor_loss": loss.detach(), "log_prob": log_prob.detach().mean(-1)}
