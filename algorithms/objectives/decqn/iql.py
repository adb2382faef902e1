"""DecQN-IQL (arXiv 2411.11088): implicit Q-learning with decomposed values.

Kostrikov et al. 2021, arXiv 2110.06169. METHODS.md section 1.4. Shapes: B states.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spin_rl.algorithms.data.batches import Batch
from spin_rl.algorithms.networks.critics import ValueNetwork, chosen
from spin_rl.algorithms.objectives.decqn.one_step import ExtractingObjective, ExtractionSettings
from spin_rl.algorithms.objectives.losses import REGRESSIONS, Info
from spin_rl.algorithms.policies.base import Policy
from spin_rl.errors import UserError


@dataclass(frozen=True)
class DecQNIQLSettings(ExtractionSettings):
    """Settings of DecQN-IQL; the defaults are the paper's.

    Attributes:
        expectile: of the regression of V on the target utilities' Q.
    """

    name = "decqn-iql"

    expectile: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.expectile < 1:
            raise UserError(f"expectile={self.expectile} does not lie between 0 and 1.")


class DecQNIQL(ExtractingObjective):
    """The target is a value network's, which no choice outside of the dataset reaches."""

    settings_class = DecQNIQLSettings
    settings: DecQNIQLSettings

    def __init__(
        self, policy: Policy | None, observation_size: int, nvec: Sequence[int], settings: DecQNIQLSettings
    ) -> None:
        super().__init__(policy, observation_size, nvec, settings)
        self.value = ValueNetwork(observation_size, settings.critic_width)

    def make_optimizers(self) -> None:
        super().make_optimizers()
        self.optimizers["value"] = self.gradient_step(self.value.parameters())

    def update(self, batch: Batch) -> Info:
        """One update: the clone, V, the utilities with the V just updated, their target."""
        batch = self.normalised_batch(batch)
        info = self.clone_step(batch)
        info |= self.value_step(batch)
        with torch.no_grad(), self.autocast():
            next_v_B = self.value(batch.next_observation)
        return info | self.utility_step(batch, next_v_B)

    def value_step(self, batch: Batch) -> Info:
        """One step of V towards an expectile of the target utilities' Q."""
        with self.autocast():
            with torch.no_grad():
                u_EBNC = self.target_utilities(batch.observation)
                q_B = self.combine(chosen(u_EBNC, batch.action)).mean(-2)
            v_B = self.value(batch.observation)
        loss, info = value_loss(q_B, v_B, self.settings.expectile)
        self.optimizers["value"](loss)
        return info


def value_loss(q_B: Tensor, v_B: Tensor, expectile: float) -> tuple[Tensor, Info]:
    """Expectile regression 2 w huber(e), e = Q(s, a) - V(s), w = expectile where e > 0, else 1 - expectile.

    That is w e^2 near 0, as in arXiv 2110.06169 eq. 5. Where |e| >= 1 the published form is |e| - w, which neither
    weighs over- and underestimates nor meets the quadratic part unless w is 1/2; at the expectile of 1/2, the only one
    it was used with, the two are the same.
    """
    error_B = q_B - v_B
    # constants made on the device: where() would copy numbers there, and wait for it
    below, above = error_B.new_full((), 1.0 - expectile), error_B.new_full((), expectile)
    weight_B = torch.where(error_B > 0, above, below)
    loss = (2.0 * weight_B * REGRESSIONS["huber"](error_B)).mean(-1)
    return loss, {"value_loss": loss.detach(), "value": v_B.detach().mean(-1)}
