"""DecQN-BCQ (arXiv 2411.11088): DecQN whose maxima are over what a clone of the behaviour admits.

Discrete BCQ: arXiv 1910.01708. METHODS.md section 1.2. Shapes: B states, N sub-actions, C choices.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spin_rl.algorithms.data.batches import Batch
from spin_rl.algorithms.objectives.decqn.base import DecomposedSettings
from spin_rl.algorithms.objectives.decqn.clone import ClonedObjective
from spin_rl.algorithms.objectives.losses import Info
from spin_rl.algorithms.policies.valuation import excluded_choices
from spin_rl.errors import UserError


@dataclass(frozen=True)
class DecQNBCQSettings(DecomposedSettings):
    """Settings of DecQN-BCQ; the defaults are the paper's for DM Control.

    Attributes:
        threshold: a choice is admissible if its probability is at least this share of the likeliest one's; the paper
            has 0.5 on DM Control and 0.25 in the maze.
    """

    name = "decqn-bcq"

    threshold: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.threshold <= 1:
            raise UserError(f"threshold={self.threshold} must lie in (0, 1].")


class DecQNBCQ(ClonedObjective):
    """Target and action take the best admissible utility of every sub-action.

    ``bcq`` differs: there Q(s, a) is a sum, the target the minimum over members, and the loss a squared error.
    """

    settings_class = DecQNBCQSettings
    settings: DecQNBCQSettings

    def update(self, batch: Batch) -> Info:
        """One update: the clone, the utilities with what that clone admits, their target."""
        batch = self.normalised_batch(batch)
        info = self.clone_step(batch)
        with torch.no_grad(), self.autocast():
            next_u_BNC = self.mean_utilities(self.target_utilities, batch.next_observation)
            next_v_B = self.combine(self._admitted(next_u_BNC, batch.next_observation).amax(-1))
        return info | self.utility_step(batch, next_v_B)

    def scores(self, observation: Tensor) -> Tensor:
        """U-bar of the admissible choices, -inf of all others."""
        return self._admitted(self.mean_utilities(self.utilities, observation), observation)

    def _admitted(self, u_BNC: Tensor, observation: Tensor) -> Tensor:
        excluded_BNC = excluded_choices(self.clone_logits(observation), self.settings.threshold)
        return u_BNC.masked_fill(excluded_BNC, -torch.inf)
