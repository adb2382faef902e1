"""Implicit Q-learning (Kostrikov et al. 2021, arXiv 2110.06169) with a factored critic (SPEC.md section 4).

Shapes: B states, E critics.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spin_rl.algorithms.data.batches import Batch
from spin_rl.algorithms.networks.critics import ValueNetwork
from spin_rl.algorithms.networks.freezing import trainable
from spin_rl.algorithms.objectives.base import ObjectiveSettings
from spin_rl.algorithms.objectives.losses import Info, Target
from spin_rl.algorithms.objectives.policy_objective import PolicyObjective
from spin_rl.algorithms.policies import Policy
from spin_rl.errors import UserError


@dataclass(frozen=True)
class IQLSettings(ObjectiveSettings):
    """Settings of IQL; the defaults are the paper's.

    Attributes:
        expectile: of the regression of V on the target critic's Q.
        beta: inverse temperature of the advantage weights.
        weight_cap: largest advantage weight.
    """

    name = "iql"

    expectile: float = 0.8
    beta: float = 3.0
    weight_cap: float = 100.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.expectile < 1:
            raise UserError(f"expectile={self.expectile} does not lie between 0 and 1.")


class IQL(PolicyObjective):
    """Critic ensemble, value network and policy, and the update of all three."""

    settings_class = IQLSettings
    settings: IQLSettings

    def __init__(
        self, policy: Policy | None, observation_size: int, nvec: Sequence[int], settings: IQLSettings
    ) -> None:
        super().__init__(policy, observation_size, nvec, settings)
        self.critic, self.target_critic = self.new_critic(), self.new_critic()
        self.value = ValueNetwork(observation_size, settings.critic_width)
        self._target = Target(self.critic, self.target_critic, settings.target_rate)

    def make_optimizers(self) -> None:
        self.optimizers = {
            "value": self.gradient_step(self.value.parameters()),
            # the actor's loss does not touch the critic nor the critic's the actor: one backward, one fused step
            "critic_and_actor": self.gradient_step(self.critic.parameters(), trainable(self.policy)),
        }

    def update(self, batch: Batch) -> Info:
        """One update, in SPEC.md's order: V, then critic with the V just updated, actor, target."""
        settings = self.settings
        with self.autocast():
            with torch.no_grad():
                target_q_B = self.target_critic.joint_value(batch.observation, batch.action).amin(-2)
            v_B = self.value(batch.observation)
        v_loss, v_info, advantage_B = value_loss(target_q_B, v_B, settings.expectile)
        self.optimizers["value"](v_loss)

        with self.autocast():
            with torch.no_grad():
                next_v_B = self.value(batch.next_observation)
            q_EB = self.critic.joint_value(batch.observation, batch.action)
            log_prob_B = self.policy.log_probs(self.features(batch), batch.action).sum(-1)
        q_loss, q_info = self.critic_loss(q_EB, batch, next_v_B)
        pi_loss, pi_info = actor_loss(log_prob_B, advantage_B, settings.beta, settings.weight_cap)
        self.optimizers["critic_and_actor"](q_loss + pi_loss)

        self._target.update()
        return v_info | q_info | pi_info


def value_loss(target_q: Tensor, v: Tensor, expectile: float) -> tuple[Tensor, Info, Tensor]:
    """Expectile regression |tau - 1[adv < 0]| adv^2 with adv = Q_target(s, a) - V(s), arXiv 2110.06169 eq. 5.

    Returns the loss, its info and the detached advantage (B,).
    """
    advantage = target_q - v
    # constants made on the device: where() would copy numbers there, and wait for it
    below, above = advantage.new_full((), 1.0 - expectile), advantage.new_full((), expectile)
    weight = torch.where(advantage < 0, below, above)
    loss = (weight * advantage.square()).mean(-1)
    return loss, {"value_loss": loss.detach(), "value": v.detach().mean(-1)}, advantage.detach()


def actor_loss(log_prob: Tensor, advantage: Tensor, beta: float, weight_cap: float) -> tuple[Tensor, Info]:
    """Advantage-weighted regression -min(exp(beta adv), cap) log pi(a | s), eq. 7."""
    weight = (beta * advantage).exp().clamp(max=weight_cap)
    loss = -(weight * log_prob).mean(-1)
    return loss, {
        "actor_loss": loss.detach(),
        "log_prob": log_prob.detach().mean(-1),
        "advantage": advantage.mean(-1),
        "weight": weight.mean(-1),
    }
