"""Batch-constrained Q-learning (Fujimoto et al. 2019, arXiv 1812.02900; discrete: 1910.01708) with a factored critic.

SPEC.md section 4. The policy clones the behaviour, and only says which choices are admissible; the critic chooses.
Shapes: B states, N sub-actions, E critics.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spin_rl.algorithms.data.batches import Batch
from spin_rl.algorithms.networks.freezing import trainable
from spin_rl.algorithms.objectives.base import ObjectiveSettings
from spin_rl.algorithms.objectives.losses import Info, Target
from spin_rl.algorithms.objectives.policy_objective import PolicyObjective, noiseless
from spin_rl.algorithms.policies import Policy
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


class BCQ(PolicyObjective):
    """Critic ensemble and policy, and the update of both.

    Where the descriptions leave a choice: the target critic both chooses and values the next joint action, what is
    admissible comes from the policy as it acts (without dropout), and the "minimum member" of an action is the one
    whose best admissible joint action has the lowest value, as in the next state's value.
    """

    settings_class = BCQSettings
    settings: BCQSettings
    sampled = False
    weighs_actions = True
    policy_dropout = 0.0

    def __init__(
        self, policy: Policy | None, observation_size: int, nvec: Sequence[int], settings: BCQSettings
    ) -> None:
        super().__init__(policy, observation_size, nvec, settings)
        self.critic, self.target_critic = self.new_critic(), self.new_critic()
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
            log_prob_B = self.policy.log_probs(self.features(batch), batch.action).sum(-1)
        pi_loss, pi_info = actor_loss(log_prob_B)
        self.optimizers["actor"](pi_loss)

        with noiseless(self.policy), self.autocast():
            features = self.next_features(batch)
            uniforms = self.draw_values(features, settings.candidates)
            best = self.policy.best_action(
                self.target_critic, batch.next_observation, features, uniforms, settings.threshold
            )
        with self.autocast():
            q_EB = self.critic.joint_value(batch.observation, batch.action)
        q_loss, q_info = self.critic_loss(q_EB, batch, best.value.amin(-2))
        self.optimizers["critic"](q_loss)

        self._target.update()
        return q_info | pi_info

    def draws(self, *, sample: bool) -> int:
        return super().draws(sample=True) if sample else self.policy.value_draws(self.settings.candidates)

    def decide(self, observation: Tensor, uniforms: Tensor | None, *, sample: bool) -> Tensor:
        """The best admissible joint actions by the member that values them least, or samples of the behaviour."""
        if sample:
            return super().decide(observation, uniforms, sample=True)
        features = self.policy.features(observation)
        best = self.policy.best_action(self.critic, observation, features, uniforms, self.settings.threshold)
        member = best.value.argmin(0)  # (B,)
        return best.action[member, torch.arange(len(member), device=member.device)]


def actor_loss(log_prob: Tensor) -> tuple[Tensor, Info]:
    """Behaviour cloning -log pi(a | s), arXiv 1910.01708."""
    loss = -log_prob.mean(-1)
    return loss, {"actor_loss": loss.detach(), "log_prob": log_prob.detach().mean(-1)}
