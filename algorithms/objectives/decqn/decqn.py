"""DecQN: decoupled Q-learning (Seyde et al. 2022, arXiv 2210.12566) on a dataset, without an offline correction.

As in arXiv 2411.11088; METHODS.md section 1.1. Shapes: B states.
"""

from dataclasses import dataclass

import torch

from spin_rl.algorithms.data.batches import Batch
from spin_rl.algorithms.objectives.decqn.base import DecomposedObjective, DecomposedSettings
from spin_rl.algorithms.objectives.losses import Info


@dataclass(frozen=True)
class DecQNSettings(DecomposedSettings):
    """Settings of DecQN; the defaults are those of arXiv 2411.11088."""

    name = "decqn"


class DecQN(DecomposedObjective):
    """The target takes the best utility of every sub-action, wherever the dataset has it or not."""

    settings_class = DecQNSettings
    settings: DecQNSettings

    def update(self, batch: Batch) -> Info:
        """One update: the utilities to r + gamma 1/N sum_i max_c U-bar_i(s', c), then their target."""
        batch = self.normalised_batch(batch)
        with torch.no_grad(), self.autocast():
            next_v_B = self.greedy_value(batch.next_observation)
        return self.utility_step(batch, next_v_B)
