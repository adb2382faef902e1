"""FactorisedBC: behaviour cloning with independent sub-actions, and nothing else (arXiv 2411.11088).

METHODS.md section 1.6. Shapes: B states, N sub-actions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from spin_rl.algorithms.data.batches import Batch
from spin_rl.algorithms.objectives.base import ObjectiveSettings
from spin_rl.algorithms.objectives.decqn.clone import clone_loss
from spin_rl.algorithms.objectives.decqn.normalised import NormalisedObjective
from spin_rl.algorithms.objectives.losses import Info
from spin_rl.algorithms.policies.base import Policy, choose
from spin_rl.algorithms.policies.factored import FactoredPolicy


@dataclass(frozen=True)
class FactorisedBCSettings(ObjectiveSettings):
    """Settings of FactorisedBC; the defaults are the paper's.

    Attributes:
        critic_width: of the clone, in the place of critics.
    """

    name = "factorised-bc"

    critic_width: int = 512


class FactorisedBC(NormalisedObjective):
    """The clone of the behaviour alone: what the dataset's choices are worth plays no part."""

    settings_class = FactorisedBCSettings
    settings: FactorisedBCSettings

    def __init__(
        self, policy: Policy | None, observation_size: int, nvec: Sequence[int], settings: FactorisedBCSettings
    ) -> None:
        super().__init__(policy, observation_size, nvec, settings)
        self.clone = FactoredPolicy(observation_size, nvec, settings.critic_width, dropout=0.0)

    def make_optimizers(self) -> None:
        self.optimizers = {"clone": self.gradient_step(self.clone.parameters())}

    def update(self, batch: Batch) -> Info:
        """One update: a step of the clone."""
        with self.autocast():
            log_prob_BN = self.clone.log_probs(self.normalised(batch.observation), batch.action)
        loss, info = clone_loss(log_prob_BN)
        self.optimizers["clone"](loss)
        return info

    def draws(self, *, sample: bool) -> int:
        return len(self.nvec) if sample else 0

    def decide(self, observation: Tensor, uniforms: Tensor | None, *, sample: bool) -> Tensor:
        """The likeliest choice of every sub-action, or samples of the behaviour."""
        return choose(self.clone.logits(self.normalised(observation)), uniforms if sample else None)
