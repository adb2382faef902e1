"""The clone of the behaviour that some of the methods need (arXiv 2411.11088; METHODS.md section 1.0).

Shapes: B states, N sub-actions, C choices.
"""

from collections.abc import Sequence

from torch import Tensor

from spin_rl.algorithms.data.batches import Batch
from spin_rl.algorithms.networks.layers import precise
from spin_rl.algorithms.objectives.decqn.base import DecomposedObjective, DecomposedSettings
from spin_rl.algorithms.objectives.losses import Info
from spin_rl.algorithms.policies.base import Policy
from spin_rl.algorithms.policies.factored import FactoredPolicy


class ClonedObjective(DecomposedObjective):
    """Value decomposition beside a clone of the behaviour, which is an MLP as wide as the utilities'."""

    def __init__(
        self, policy: Policy | None, observation_size: int, nvec: Sequence[int], settings: DecomposedSettings
    ) -> None:
        super().__init__(policy, observation_size, nvec, settings)
        self.clone = FactoredPolicy(observation_size, nvec, settings.critic_width, dropout=0.0)

    def make_optimizers(self) -> None:
        super().make_optimizers()
        self.optimizers["clone"] = self.gradient_step(self.clone.parameters())

    def clone_step(self, batch: Batch) -> Info:
        """One step of the clone towards the dataset's actions."""
        with self.autocast():
            log_prob_BN = self.clone.log_probs(batch.observation, batch.action)
        loss, info = clone_loss(log_prob_BN)
        self.optimizers["clone"](loss)
        return info

    def clone_logits(self, observation: Tensor) -> Tensor:
        """Logits (B, N, C) of the clone, -inf for choices that do not exist."""
        return precise(self.clone.logits(observation))


def clone_loss(log_prob_BN: Tensor) -> tuple[Tensor, Info]:
    """-log pi_i(a_i | s), mean over minibatch and sub-actions: 1/N of the joint action's."""
    loss = -log_prob_BN.mean((-2, -1))
    return loss, {"actor_loss": loss.detach(), "log_prob": log_prob_BN.detach().sum(-1).mean(-1)}
