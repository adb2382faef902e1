"""Objectives whose networks read normalised observations."""

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from spin_rl.algorithms.asm.model import ActionStructureModel
from spin_rl.algorithms.data.batches import Batch, DeviceTransitions
from spin_rl.algorithms.data.features import FeatureStorage
from spin_rl.algorithms.data.moments import state_moments
from spin_rl.algorithms.networks.layers import missing_choices
from spin_rl.algorithms.objectives.base import Objective, ObjectiveSettings
from spin_rl.algorithms.policies.base import Policy, Preparation
from spin_rl.algorithms.presets import Preset

_LEAST_DEVIATION = 1e-3
"""Added to every standard deviation, so that a dimension that does not vary is 0 and not undefined."""


class NormalisedObjective(Objective):
    """An objective without a policy network that sees (s - mean) / (std + 1e-3), in training and in evaluation.

    Mean and standard deviation are those of the dataset's states, dimension by dimension (arXiv 2411.11088).
    """

    mean: Tensor
    deviation: Tensor
    missing: Tensor

    def __init__(
        self, policy: Policy | None, observation_size: int, nvec: Sequence[int], settings: ObjectiveSettings
    ) -> None:
        super().__init__(policy, observation_size, nvec, settings)
        self.register_buffer("mean", torch.zeros(observation_size))
        self.register_buffer("deviation", torch.ones(observation_size))
        self.register_buffer("missing", missing_choices(nvec), persistent=False)

    @classmethod
    def width(cls, preset: Preset) -> int:
        return preset.utility_width

    @property
    def stackable(self) -> bool:
        return True

    @property
    def capturable(self) -> bool:
        return True

    def prepare(
        self, data: DeviceTransitions, asm: ActionStructureModel | None, storage: FeatureStorage, seed: int
    ) -> Preparation:
        started = time.perf_counter()
        mean_S, deviation_S = state_moments(data)
        self.mean.copy_(mean_S)
        self.deviation.copy_(deviation_S + _LEAST_DEVIATION)
        return Preparation(time.perf_counter() - started)

    def normalised(self, observation: Tensor) -> Tensor:
        """Observations (B, S) as the networks read them."""
        return (observation - self.mean) / self.deviation

    def normalised_batch(self, batch: Batch) -> Batch:
        """A minibatch whose states and next states are normalised."""
        return batch._replace(
            observation=self.normalised(batch.observation), next_observation=self.normalised(batch.next_observation)
        )

    def draws(self, *, sample: bool) -> int:
        """None: value decomposition acts greedily, and has no distribution to sample from."""
        return 0
