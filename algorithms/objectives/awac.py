"""Advantage-weighted actor-critic (Nair et al. 2020, arXiv 2006.09359) with a factored critic (SPEC.md section 4)."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from spin_rl.algorithms.data.batches import Batch
from spin_rl.algorithms.networks.critics import FactoredCritic, ValueNetwork
from spin_rl.algorithms.networks.freezing import trainable
from spin_rl.algorithms.objectives.base import (
    Info,
    Objective,
    ObjectiveSettings,
    Target,
    critic_loss,
    draw_actions,
    noiseless,
)
from spin_rl.algorithms.policies import FactorisedPolicy, Policy
from spin_rl.errors import UserError


@dataclass(frozen=True)
class AWACSettings(ObjectiveSettings):
    """Settings of AWAC; the defaults are the paper's.

    Attributes:
        temperature: of the advantage weights.
        weight_cap: largest advantage weight.
        value_samples: joint actions over which the expected value of a policy that does not factorise is averaged.
    """

    name = "awac"

    temperature: float = 0.3
    weight_cap: float = 100.0
    value_samples: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.temperature <= 0 or self.value_samples < 1:
            raise UserError(
                f"temperature={self.temperature} must be positive and value_samples={self.value_samples} at least 1."
            )


class AWAC(Objective):
    """Critic ensemble, value network and policy, and the update of all three.

    Where the descriptions leave a choice: the expected value is that of the policy as it acts (without dropout).
    """

    settings_class = AWACSettings
    settings: AWACSettings

    def __init__(self, policy: Policy, observation_size: int, settings: AWACSettings) -> None:
        super().__init__(policy, observation_size, settings)
        self.value = ValueNetwork(observation_size, settings.critic_width)
        self.target_value = ValueNetwork(observation_size, settings.critic_width)
        self._target = Target(self.critic, self.target_critic, settings.target_rate)
        self._value_target = Target(self.value, self.target_value, settings.target_rate)

    def make_optimizers(self) -> None:
        self.optimizers = {
            "critic": self.gradient_step(self.critic.parameters()),
            "actor": self.gradient_step(trainable(self.policy)),
            "value": self.gradient_step(self.value.parameters()),
        }

    def update(self, batch: Batch) -> Info:
        """One update, in SPEC.md's order: critic, actor with the critic just updated, V with that actor, targets."""
        settings = self.settings
        features = batch.features
        with self.autocast():
            with torch.no_grad():
                next_v = self.target_value(batch.next_observation)
            q = self.critic.joint_value(batch.observation, batch.action)
        q_loss, q_info = critic_loss(q, batch.reward, batch.terminated, next_v, settings.gamma)
        self.optimizers["critic"](q_loss)

        with self.autocast():
            v = self.value(batch.observation)
            with torch.no_grad():
                advantage = self.critic.joint_value(batch.observation, batch.action).amin(-2) - v
            log_prob = self.policy.log_probs(features, batch.action).sum(-1)
        pi_loss, pi_info = actor_loss(log_prob, advantage, settings.temperature, settings.weight_cap)
        self.optimizers["actor"](pi_loss)

        with noiseless(self.policy), self.autocast():
            expected_q = expected_value(
                self.policy, self.target_critic, features, batch.observation, settings.value_samples
            )
        v_loss, v_info = value_loss(expected_q.amin(-2), v)
        self.optimizers["value"](v_loss)

        self._target.update()
        self._value_target.update()
        return v_info | q_info | pi_info


def expected_value(
    policy: Policy, critic: FactoredCritic, features: Tensor, observation: Tensor, samples: int
) -> Tensor:
    """E over a ~ pi of Q(s, a), (E, B), the policy's value of AWAC (arXiv 2006.09359).

    Exact where the policy factorises: sum_i sum_c pi_i(c | s) Q_i(s, c). The mean of ``samples`` draws otherwise.

    Args:
        policy: pi.
        critic: Q.
        features: what the policy reads of the states.
        observation: (B, S), what the critic reads of them.
        samples: K.
    """
    values = critic(observation)  # (E, B, N, C)
    if isinstance(policy, FactorisedPolicy):
        probabilities: Tensor = policy.probabilities(features)
        return (probabilities.unsqueeze(-4) * values).sum((-2, -1))
    chosen = draw_actions(policy, features, samples).transpose(1, 2)  # (B, K, N) -> (B, N, K)
    return values.gather(-1, chosen.expand(len(values), *chosen.shape)).sum(2).mean(-1)


def value_loss(expected_q: Tensor, v: Tensor) -> tuple[Tensor, Info]:
    """MSE of V(s) to min over members of E over a ~ pi of Q_target(s, a), (B,)."""
    loss = functional.mse_loss(v, expected_q, reduction="none").mean(-1)
    return loss, {"value_loss": loss.detach(), "value": v.detach().mean(-1)}


def actor_loss(log_prob: Tensor, advantage: Tensor, temperature: float, weight_cap: float) -> tuple[Tensor, Info]:
    """Advantage-weighted regression -min(exp(adv / lambda), cap) log pi(a | s), arXiv 2006.09359."""
    weight = (advantage / temperature).exp().clamp(max=weight_cap)
    loss = -(weight * log_prob).mean(-1)
    return loss, {
        "actor_loss": loss.detach(),
        "log_prob": log_prob.detach().mean(-1),
        "advantage": advantage.mean(-1),
        "weight": weight.mean(-1),
    }
