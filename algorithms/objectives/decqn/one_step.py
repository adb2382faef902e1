"""DecQN-OneStep (arXiv 2411.11088): the value of the behaviour, and one step of improvement on it.

Brandfonbrener et al. 2021, arXiv 2106.08909. METHODS.md section 1.5.
Shapes: B states, N sub-actions, C choices.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spin_rl.algorithms.data.batches import Batch
from spin_rl.algorithms.networks.layers import precise
from spin_rl.algorithms.objectives.decqn.base import DecomposedSettings
from spin_rl.algorithms.objectives.decqn.clone import ClonedObjective
from spin_rl.algorithms.objectives.losses import Info
from spin_rl.errors import UserError


@dataclass(frozen=True)
class ExtractionSettings(DecomposedSettings):
    """Settings of objectives that act by utilities and clone together; the defaults are the paper's.

    Attributes:
        extraction_temperature: lambda of the choice that is taken, argmax of U/lambda + log pi: a small one follows the
            utilities, a large one the clone of the behaviour.
    """

    extraction_temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.extraction_temperature <= 0:
            raise UserError(f"extraction_temperature={self.extraction_temperature} must be positive.")


class ExtractingObjective(ClonedObjective):
    """Acts by utilities and clone together."""

    settings: ExtractionSettings

    def scores(self, observation: Tensor) -> Tensor:
        """U-bar_i(s, c) / lambda + log pi_i(c | s), (B, N, C).

        Subtracting V(s) would change no choice. The utility stands as it is, although its part in Q(s, a) is 1/N of it.
        """
        u_BNC = self.mean_utilities(self.utilities, observation)
        return extraction_scores(u_BNC, self.clone_logits(observation), self.settings.extraction_temperature)


@dataclass(frozen=True)
class DecQNOneStepSettings(ExtractionSettings):
    """Settings of DecQN-OneStep; the defaults are the paper's."""

    name = "decqn-onestep"


class DecQNOneStep(ExtractingObjective):
    """The target is the value of the clone: an expectation in the place of DecQN's maximum."""

    settings_class = DecQNOneStepSettings
    settings: DecQNOneStepSettings

    def update(self, batch: Batch) -> Info:
        """One update: the clone, the utilities with the value of that clone, their target."""
        batch = self.normalised_batch(batch)
        info = self.clone_step(batch)
        with torch.no_grad(), self.autocast():
            next_u_BNC = self.mean_utilities(self.target_utilities, batch.next_observation)
            next_v_B = self.combine(expected_utilities(next_u_BNC, self.clone_logits(batch.next_observation)))
        return info | self.utility_step(batch, next_v_B)


def expected_utilities(u_BNC: Tensor, logits_BNC: Tensor) -> Tensor:
    """sum_c pi_i(c | s) U-bar_i(s, c), (B, N); choices that do not exist have no probability."""
    return (precise(logits_BNC).softmax(-1) * u_BNC).sum(-1)


def extraction_scores(u_BNC: Tensor, logits_BNC: Tensor, temperature: float) -> Tensor:
    """U-bar_i(s, c) / lambda + log pi_i(c | s), (B, N, C), whose argmax is the policy's choice; -inf where missing."""
    return u_BNC / temperature + precise(logits_BNC).log_softmax(-1)
