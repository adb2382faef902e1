"""Advantage-weighted actor-critic (Nair et al. 2020, arXiv 2006.09359) with a factored critic (SPEC.md section 4).

Shapes: B states, E critics.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from spin_rl.algorithms.data.batches import Batch
from spin_rl.algorithms.networks.critics import ValueNetwork
from spin_rl.algorithms.networks.freezing import trainable
from spin_rl.algorithms.objectives.base import ObjectiveSettings
from spin_rl.algorithms.objectives.losses import Info, Target
from spin_rl.algorithms.objectives.policy_objective import PolicyObjective, noiseless
from spin_rl.algorithms.policies import Policy
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


class AWAC(PolicyObjective):
    """Critic ensemble, value network and policy, and the update of all three.

    Where the descriptions leave a choice: the expected value is that of the policy as it acts (without dropout).
    """

    settings_class = AWACSettings
    settings: AWACSettings
    weighs_actions = True

    def __init__(
        self, policy: Policy | None, observation_size: int, nvec: Sequence[int], settings: AWACSettings
    ) -> None:
        super().__init__(policy, observation_size, nvec, settings)
        self.critic, self.target_critic = self.new_critic(), self.new_critic()
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
        with self.autocast():
            with torch.no_grad():
                next_v_B = self.target_value(batch.next_observation)
            q_EB = self.critic.joint_value(batch.observation, batch.action)
        q_loss, q_info = self.critic_loss(q_EB, batch, next_v_B)
        self.optimizers["critic"](q_loss)

        with self.autocast():
            v_B = self.value(batch.observation)
            with torch.no_grad():
                advantage_B = self.critic.joint_value(batch.observation, batch.action).amin(-2) - v_B
            features = self.features(batch)
            log_prob_B = self.policy.log_probs(features, batch.action).sum(-1)
        pi_loss, pi_info = actor_loss(log_prob_B, advantage_B, settings.temperature, settings.weight_cap)
        self.optimizers["actor"](pi_loss)

        with noiseless(self.policy), self.autocast():
            uniforms = self.draw_values(features, settings.value_samples)
            expected_q_EB = self.policy.expected_value(self.target_critic, batch.observation, features, uniforms)
        v_loss, v_info = value_loss(expected_q_EB.amin(-2), v_B)
        self.optimizers["value"](v_loss)

        self._target.update()
        self._value_target.update()
        return v_info | q_info | pi_info


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
