"""DQN-CQL (arXiv 2411.11088): a value for every joint action, a reference in tiny action spaces.

METHODS.md section 1.7. Shapes: B states, N sub-actions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spin_rl.algorithms.data.batches import Batch
from spin_rl.algorithms.objectives.decqn.cql import DecQNCQL, DecQNCQLSettings
from spin_rl.algorithms.objectives.losses import Info
from spin_rl.algorithms.policies.base import Policy
from spin_rl.errors import UserError

MOST_JOINT_ACTIONS = 10_000
"""Joint actions of the largest space that it takes: an output of the network each."""


@dataclass(frozen=True)
class DQNCQLSettings(DecQNCQLSettings):
    """Settings of DQN-CQL; the defaults are the paper's."""

    name = "dqn-cql"


class DQNCQL(DecQNCQL):
    """DecQN-CQL with one sub-action, whose choices are all joint actions, numbered as NumPy ravels them."""

    settings_class = DQNCQLSettings
    settings: DQNCQLSettings
    any_actions = False
    strides: Tensor
    sizes: Tensor

    def __init__(
        self, policy: Policy | None, observation_size: int, nvec: Sequence[int], settings: DQNCQLSettings
    ) -> None:
        self.check_actions(nvec)
        super().__init__(policy, observation_size, (math.prod(nvec),), settings)
        self.register_buffer("strides", torch.tensor([math.prod(nvec[i + 1 :]) for i in range(len(nvec))]), False)
        self.register_buffer("sizes", torch.tensor(list(nvec)), False)

    @classmethod
    def check_actions(cls, nvec: Sequence[int]) -> None:
        if (count := math.prod(nvec)) > MOST_JOINT_ACTIONS:
            raise UserError(
                f"dqn-cql has an output for each of the {count:,} joint actions, and takes {MOST_JOINT_ACTIONS:,} at "
                "most: decqn-cql is its counterpart for large action spaces."
            )

    def update(self, batch: Batch) -> Info:
        """An update of DecQN-CQL, with the numbers of joint actions as actions."""
        number_B = (batch.action * self.strides).sum(-1)
        return super().update(batch._replace(action=number_B.unsqueeze(-1)))

    def decide(self, observation: Tensor, uniforms: Tensor | None, *, sample: bool) -> Tensor:
        number_B1 = super().decide(observation, uniforms, sample=sample)
        return number_B1 // self.strides % self.sizes
