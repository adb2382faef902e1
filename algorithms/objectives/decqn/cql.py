"""DecQN-CQL (arXiv 2411.11088): DecQN with the penalty of conservative Q-learning.

Kumar et al. 2020, arXiv 2006.04779. METHODS.md section 1.3. Shapes: B states, N sub-actions, C choices, E members.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spin_rl.algorithms.data.batches import Batch
from spin_rl.algorithms.objectives.decqn.decqn import DecQN, DecQNSettings
from spin_rl.algorithms.objectives.losses import Info
from spin_rl.errors import UserError


@dataclass(frozen=True)
class DecQNCQLSettings(DecQNSettings):
    """Settings of DecQN-CQL; the defaults are the paper's.

    Attributes:
        cql_alpha: weight of the penalty on utilities of choices that are not the dataset's.
    """

    name = "decqn-cql"

    cql_alpha: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cql_alpha < 0:
            raise UserError(f"cql_alpha={self.cql_alpha} must not be negative: 0 leaves the penalty out.")


class DecQNCQL(DecQN):
    """DecQN whose loss also lowers utilities, and raises those of the dataset's choices."""

    settings_class = DecQNCQLSettings
    settings: DecQNCQLSettings

    def utility_loss(self, u_EBNC: Tensor, batch: Batch, next_v_B: Tensor) -> tuple[Tensor, Info]:
        loss, info = super().utility_loss(u_EBNC, batch, next_v_B)
        penalty_BN = conservative_gap(u_EBNC.mean(-4), batch.action, self.missing)
        penalty = self.combine(penalty_BN).mean(-1)
        return loss + self.settings.cql_alpha * penalty, info | {"cql_penalty": penalty.detach()}


def conservative_gap(u_BNC: Tensor, action: Tensor, missing_NC: Tensor) -> Tensor:
    """log sum_c exp U-bar_i(s, c) - U-bar_i(s, a_i), (B, N): arXiv 2006.04779 eq. 4 for each sub-action.

    Averaged over sub-actions where Q(s, a) is their mean, and summed where it is their sum.
    """
    all_BN = u_BNC.masked_fill(missing_NC, -torch.inf).logsumexp(-1)
    return all_BN - u_BNC.gather(-1, action.unsqueeze(-1)).squeeze(-1)
