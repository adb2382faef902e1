"""Factored BCQ (Tang et al., NeurIPS 2022, "Leveraging Factored Action Spaces for Efficient Offline RL"), called FAS.

Q(s, a) is the sum of a value for each sub-action, and choices that the behaviour hardly makes are not admissible. It
has no policy: it acts by its critic, on what its clone of the behaviour admits.
Shapes: B states, N sub-actions, C choices.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from spin_rl.algorithms.asm.model import ActionStructureModel
from spin_rl.algorithms.data.batches import Batch, DeviceTransitions
from spin_rl.algorithms.data.features import FeatureStorage
from spin_rl.algorithms.networks.sub_action_mlp import SubActionMLP
from spin_rl.algorithms.objectives.base import Objective, ObjectiveSettings
from spin_rl.algorithms.objectives.losses import Info
from spin_rl.algorithms.objectives.periodic_target import PeriodicTarget
from spin_rl.algorithms.objectives.prioritised import Priorities
from spin_rl.algorithms.policies import Policy
from spin_rl.algorithms.policies.base import Preparation
from spin_rl.errors import UserError, unknown_name

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "tang": {
        "cloning": "sum",
        "hidden_layers": 2,
        "weight_decay": 1e-3,
        "rate_decay": 1.0,
        "target_every": 0,
        "prioritised": False,
    },
    "brave": {
        "cloning": "mean",
        "hidden_layers": 3,
        "weight_decay": 0.0,
        "rate_decay": 0.99995,
        "target_every": 50,
        "prioritised": True,
    },
}
"""What ``variant`` decides. Learning rate, discount and minibatch are settings of every objective: 3e-4, 0.99 and 100
with the first, 2.5e-4, 0.9 and 128 with the second."""


@dataclass(frozen=True)
class FASSettings(ObjectiveSettings):
    """Settings of FAS. What is None is as ``variant`` has it.

    Attributes:
        variant: whose settings: ``tang``, the method's own authors' (the default), or ``brave``, those of its published
            results on CoNE (arXiv 2410.21151).
        threshold: a choice is admissible if its probability is more than this share of the likeliest one's.
        logit_penalty: weight of the mean square of the clone's logits.
        cloning: the clone's loss is the ``sum`` or the ``mean`` over the sub-actions.
        hidden_layers: hidden layers of each network.
        weight_decay: of Adam.
        rate_decay: factor of the learning rate from one update to the next.
        target_every: updates between copies of the target network; 0: it moves at target_rate after every update.
        prioritised: draw transitions by their last temporal-difference errors, and not uniformly.
    """

    name = "fas"

    variant: str = "tang"
    threshold: float = 0.3  # Tang et al. search over 0, 0.01, 0.05, 0.1, 0.3, 0.5, 0.75 and 0.9999
    logit_penalty: float = 0.01
    cloning: str | None = None
    hidden_layers: int | None = None
    weight_decay: float | None = None
    rate_decay: float | None = None
    target_every: int | None = None
    prioritised: bool | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.variant not in VARIANTS:
            raise unknown_name("variant of FAS", self.variant, VARIANTS)
        full = self.completed
        if not 0 <= self.threshold < 1:
            raise UserError(f"threshold={self.threshold} must lie in [0, 1): at 1 no choice would be admissible.")
        if full["cloning"] not in ("sum", "mean"):
            raise unknown_name("reduction of the clone's loss", str(full["cloning"]), ("sum", "mean"))
        if full["hidden_layers"] < 1 or full["target_every"] < 0:
            raise UserError(
                f"hidden_layers={full['hidden_layers']} must be at least 1 and target_every={full['target_every']} at "
                "least 0."
            )
        if not 0 < full["rate_decay"] <= 1:
            raise UserError(f"rate_decay={full['rate_decay']} must lie in (0, 1]; 1 keeps the learning rate.")

    @property
    def completed(self) -> dict[str, Any]:
        """The settings that a variant decides, with its values for those that are None."""
        given = {name: getattr(self, name) for name in VARIANTS[self.variant]}
        return {**VARIANTS[self.variant], **{name: value for name, value in given.items() if value is not None}}

    @property
    def decays_rate(self) -> bool:
        return super().decays_rate or self.completed["rate_decay"] != 1.0

    @property
    def draws_minibatches(self) -> bool:
        return bool(self.completed["prioritised"])

    def rate_multiplier(self, updates: int) -> float:
        return super().rate_multiplier(updates) * float(self.completed["rate_decay"]) ** updates


class FAS(Objective):
    """A critic and a clone of the behaviour, both trained by one optimiser on one loss."""

    settings_class = FASSettings
    settings: FASSettings

    def __init__(
        self, policy: Policy | None, observation_size: int, nvec: Sequence[int], settings: FASSettings
    ) -> None:
        super().__init__(policy, observation_size, nvec, settings)
        self._full = settings.completed
        width, layers = settings.critic_width, int(self._full["hidden_layers"])
        self.critic, self.target_critic = (SubActionMLP(observation_size, nvec, width, layers, 0.0) for _ in range(2))
        self.clone = SubActionMLP(observation_size, nvec, width, layers, -torch.inf)
        self.target = PeriodicTarget(self.critic, self.target_critic, self._full["target_every"], settings.target_rate)
        self.priorities = Priorities()
        self._data: DeviceTransitions | None = None

    def prepare(
        self, data: DeviceTransitions, asm: ActionStructureModel | None, storage: FeatureStorage, seed: int
    ) -> Preparation:
        self._data = data
        if self._full["prioritised"]:
            self.priorities.prepare(data.size)
        return Preparation()

    def make_optimizers(self) -> None:
        self.optimizers = {
            "critic_and_clone": self.gradient_step(
                self.critic.parameters(), self.clone.parameters(), weight_decay=float(self._full["weight_decay"])
            )
        }

    def update(self, batch: Batch) -> Info:
        """One update of both networks, then of the target."""
        settings, indices = self.settings, None
        if self._full["prioritised"]:
            assert self._data is not None
            indices = self.priorities.draw(len(batch.reward))
            batch = self._data.gather(indices)
        with self.autocast():
            with torch.no_grad():
                next_action_BN = self.decide(batch.next_observation, None, sample=False)
                next_v_B = joint_value(self.target_critic(batch.next_observation), next_action_BN)
            q_B = joint_value(self.critic(batch.observation), batch.action)
            logits_BNC = self.clone(batch.observation)
        q_loss, q_info, error_B = critic_loss(q_B, batch, next_v_B, settings.gamma)
        pi_loss, pi_info = cloning_loss(logits_BNC, batch.action, self._full["cloning"])
        penalty, penalty_info = logit_penalty(logits_BNC, self.clone.missing)
        self.optimizers["critic_and_clone"](q_loss + pi_loss + settings.logit_penalty * penalty)
        if indices is not None:
            self.priorities.set(indices, error_B)
        self.target.update()
        return q_info | pi_info | penalty_info

    def draws(self, *, sample: bool) -> int:
        return 0

    def decide(self, observation: Tensor, uniforms: Tensor | None, *, sample: bool) -> Tensor:
        """The best admissible joint actions: with an additive Q, the best admissible choice of each sub-action."""
        admitted_BNC = admissible(self.clone(observation), self.settings.threshold)
        return self.critic(observation).masked_fill(~admitted_BNC, -torch.inf).argmax(-1)


def joint_value(q_BNC: Tensor, action_BN: Tensor) -> Tensor:
    """Q(s, a) = SUM over i of q_i(s, a_i), (B,): the linear decomposition of Tang et al."""
    return q_BNC.gather(-1, action_BN[..., None]).squeeze(-1).sum(-1)


def admissible(logits_BNC: Tensor, threshold: float) -> Tensor:
    """Where pi_i / max pi_i > threshold, (B, N, C): discrete BCQ (arXiv 1910.01708) by sub-action, strict."""
    return (logits_BNC - logits_BNC.amax(-1, keepdim=True)).exp() > threshold


def critic_loss(q_B: Tensor, batch: Batch, next_v_B: Tensor, gamma: float) -> tuple[Tensor, Info, Tensor]:
    """Smooth L1 of Q(s, a) to r + gamma (1 - terminated) Q_target(s', a'), and the detached errors (B,).

    a' is the online critic's best admissible joint action (double Q-learning, arXiv 1509.06461).
    """
    target_B = batch.reward + gamma * (1.0 - batch.terminated) * next_v_B
    loss = functional.smooth_l1_loss(q_B, target_B)
    return loss, {"critic_loss": loss.detach(), "q": q_B.detach().mean()}, (q_B - target_B).detach()


def cloning_loss(logits_BNC: Tensor, action_BN: Tensor, reduction: str) -> tuple[Tensor, Info]:
    """-log pi_i(a_i | s), mean over states, and the sum or the mean over sub-actions."""
    log_prob_BN = logits_BNC.log_softmax(-1).gather(-1, action_BN[..., None]).squeeze(-1)
    mean_N = -log_prob_BN.mean(0)
    loss = mean_N.sum() if reduction == "sum" else mean_N.mean()
    return loss, {"clone_loss": loss.detach(), "log_prob": log_prob_BN.detach().sum(-1).mean()}


def logit_penalty(logits_BNC: Tensor, missing_NC: Tensor) -> tuple[Tensor, Info]:
    """The mean square of the logits of choices that exist as in discrete BCQ (arXiv 1910.01708)."""
    loss = logits_BNC.masked_fill(missing_NC, 0.0).square().sum((-2, -1)).mean() / (~missing_NC).sum()
    return loss, {"logit_penalty": loss.detach()}
