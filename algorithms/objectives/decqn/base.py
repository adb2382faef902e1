"""What value decomposition shares: utilities, their temporal-difference loss, and acting by the best utilities.

Beeson, Ireland and Montana 2024, arXiv 2411.11088; METHODS.md section 1. The utilities U_e,i(s, c) of an ensemble make
Q_e(s, a) = 1/N sum_i U_e,i(s, a_i); targets and actions come from the ensemble's mean U-bar, never from its minimum.
Shapes: B states, N sub-actions, C choices, E members of the ensemble.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spin_rl.algorithms.data.batches import Batch
from spin_rl.algorithms.networks.critics import DECOMPOSITIONS, FactoredCritic, chosen
from spin_rl.algorithms.objectives.base import ObjectiveSettings
from spin_rl.algorithms.objectives.decqn.normalised import NormalisedObjective
from spin_rl.algorithms.objectives.losses import REGRESSIONS, Info, Target, td_errors
from spin_rl.algorithms.policies.base import Policy, choose
from spin_rl.errors import unknown_name


@dataclass(frozen=True)
class DecomposedSettings(ObjectiveSettings):
    """Settings of every objective that decomposes values; the defaults are the paper's.

    Attributes:
        decomposition: how Q(s, a) is made of the sub-actions' utilities: their mean, or for an ablation their sum.
        regression: what temporal-difference errors cost: huber, as in the published implementation, or squared, as the
            paper's Algorithm 1 has it.
    """

    name: ClassVar[str]

    critic_width: int = 512
    decomposition: str = "mean"
    regression: str = "huber"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.decomposition not in DECOMPOSITIONS:
            raise unknown_name("decomposition", self.decomposition, DECOMPOSITIONS)
        if self.regression not in REGRESSIONS:
            raise unknown_name("regression", self.regression, REGRESSIONS)


class DecomposedObjective(NormalisedObjective):
    """Utilities and their target, to which a method adds the value of the next state, and networks that it needs.

    A subclass implements ``update``, and ``scores`` where it does not act by the utilities alone. Whatever of an
    update depends on another network comes after that network's step.
    """

    settings: DecomposedSettings

    def __init__(
        self, policy: Policy | None, observation_size: int, nvec: Sequence[int], settings: DecomposedSettings
    ) -> None:
        super().__init__(policy, observation_size, nvec, settings)
        self.decomposition, self.regression = settings.decomposition, settings.regression
        self.utilities, self.target_utilities = self.new_critic(), self.new_critic()
        self._target = Target(self.utilities, self.target_utilities, settings.target_rate)

    def make_optimizers(self) -> None:
        self.optimizers = {"utilities": self.gradient_step(self.utilities.parameters())}

    def mean_utilities(self, utilities: FactoredCritic, observation: Tensor) -> Tensor:
        """U-bar_i(s, c), (B, N, C), of normalised observations (B, S); without meaning for missing choices."""
        u_EBNC: Tensor = utilities(observation)
        return u_EBNC.mean(-4)

    def combine(self, terms_BN: Tensor) -> Tensor:
        """The value (B,) that the terms of the sub-actions make: their mean, or their sum."""
        return self.utilities.combine(terms_BN, (-1,))

    def greedy_value(self, observation: Tensor) -> Tensor:
        """1/N sum_i max_c U-bar_i(s, c) by the target utilities, (B,)."""
        u_BNC = self.mean_utilities(self.target_utilities, observation)
        return self.combine(u_BNC.masked_fill(self.missing, -torch.inf).amax(-1))

    def utility_step(self, batch: Batch, next_v_B: Tensor) -> Info:
        """One step of the utilities towards r + gamma (1 - terminated) V(s'), and of their target after them."""
        with self.autocast():
            u_EBNC = self.utilities(batch.observation)
        loss, info = self.utility_loss(u_EBNC, batch, next_v_B)
        self.optimizers["utilities"](loss)
        self._target.update()
        return info

    def utility_loss(self, u_EBNC: Tensor, batch: Batch, next_v_B: Tensor) -> tuple[Tensor, Info]:
        """What the utilities at a minibatch's states cost: here, the temporal-difference loss alone."""
        q_EB = self.combine(chosen(u_EBNC, batch.action))
        return td_loss(
            q_EB, batch.reward, batch.terminated, next_v_B, self.settings.gamma, REGRESSIONS[self.regression]
        )

    def scores(self, observation: Tensor) -> Tensor:
        """What each choice is worth at normalised observations (B, S): here U-bar, (B, N, C)."""
        return self.mean_utilities(self.utilities, observation)

    def decide(self, observation: Tensor, uniforms: Tensor | None, *, sample: bool) -> Tensor:
        """The best choice of every sub-action, also where sampling is asked for."""
        scores_BNC = self.scores(self.normalised(observation))
        return choose(scores_BNC.masked_fill(self.missing, -torch.inf), None)


def td_loss(
    q_EB: Tensor,
    reward: Tensor,
    terminated: Tensor,
    next_v_B: Tensor,
    gamma: float,
    regression: Callable[[Tensor], Tensor] = REGRESSIONS["huber"],
) -> tuple[Tensor, Info]:
    """Loss of every member's Q(s, a) - (r + gamma (1 - terminated) V(s')), mean over members and minibatch.

    arXiv 2411.11088, Algorithm 1; the Huber loss has its delta at 1.
    """
    loss = regression(td_errors(q_EB, reward, terminated, next_v_B, gamma)).mean((-2, -1))
    return loss, {"critic_loss": loss.detach(), "q": q_EB.detach().mean((-2, -1))}
