"""What objectives that train a policy share."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn

from spin_rl.algorithms.asm.model import ActionStructureModel
from spin_rl.algorithms.data.batches import Batch, DeviceTransitions
from spin_rl.algorithms.data.features import FeatureStorage
from spin_rl.algorithms.objectives.base import Objective, ObjectiveSettings
from spin_rl.algorithms.policies.base import Policy, Preparation


class PolicyObjective(Objective):
    """An objective that trains a policy, and acts by it unless it says otherwise."""

    needs_policy = True
    sampled = True
    weighs_actions: ClassVar[bool] = False
    """Whether updates need the policy's expected value or best action, and not only its log-probabilities."""
    policy: Policy

    def __init__(
        self, policy: Policy | None, observation_size: int, nvec: Sequence[int], settings: ObjectiveSettings
    ) -> None:
        assert policy is not None
        super().__init__(policy, observation_size, nvec, settings)

    @property
    def stackable(self) -> bool:
        # joint actions are sampled for one network at a time
        return self.policy.stackable and not (self.weighs_actions and self.policy.value_draws(1))

    @property
    def capturable(self) -> bool:
        return self.policy.capturable

    @property
    def prepares_once(self) -> bool:
        return self.policy.prepares_once

    def start_from(self, model: nn.Module) -> None:
        self.policy.start_from(model)

    def prepare(
        self, data: DeviceTransitions, asm: ActionStructureModel | None, storage: FeatureStorage, seed: int
    ) -> Preparation:
        return self.policy.prepare(data, asm, storage, seed)

    def features(self, batch: Batch) -> Tensor:
        """What the policy reads of the states of a minibatch: stored features where there are any."""
        if batch.table is None:
            return self.policy.features(batch.observation)
        assert batch.rows is not None
        return batch.table.at(batch.rows)

    def next_features(self, batch: Batch) -> Tensor:
        """What the policy reads of the next states."""
        if batch.table is None:
            return self.policy.features(batch.next_observation)
        assert batch.rows is not None
        return batch.table.at(batch.rows + 1)

    def draw_values(self, features: Tensor, samples: int) -> Tensor | None:
        """Uniforms (B, draws) for the policy's expected value or best action, from torch's generator."""
        draws = self.policy.value_draws(samples)
        return torch.rand((len(features), draws), dtype=torch.float64, device=features.device) if draws else None

    def draws(self, *, sample: bool) -> int:
        return self.policy.draws(sample=sample)

    def decide(self, observation: Tensor, uniforms: Tensor | None, *, sample: bool) -> Tensor:
        return self.policy.decide(observation, uniforms, sample=sample)


@contextmanager
def noiseless(policy: Policy) -> Iterator[None]:
    """The policy as it acts: without dropout and without gradients."""
    training = policy.training
    policy.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        policy.train(training)
