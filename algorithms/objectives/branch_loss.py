"""BraVE's losses (arXiv 2410.21151): a target at a joint action of the data, and at every branch that leads to it.

Where the paper and the public description of its code differ, both are here.
Shapes: B states, N sub-actions, L = D + 1 nodes of a branch from the root, K slots.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from spin_rl.algorithms.objectives.action_tree import ActionTree
from spin_rl.algorithms.objectives.losses import Info
from spin_rl.algorithms.objectives.tree_search import Evaluate


class BranchValues(NamedTuple):
    """What the network says along the branches of B joint actions."""

    q: Tensor  # (B,): of the joint action itself
    chosen: Tensor  # (B, L): branch value of the child that leads to it
    own: Tensor  # (B, L): each node's q, detached
    rest: Tensor  # (B, L): the highest branch value of its other children, -inf without any; detached
    seen: Tensor  # (B, L) bool: whether the data have it
    depth: Tensor  # (B,)


def branch_values(evaluate: Evaluate, tree: ActionTree, observation: Tensor, bits_BK: Tensor) -> BranchValues:
    """One forward pass for all nodes from the root to joint actions (B, K)."""
    branch = tree.branch(bits_BK)
    levels = torch.arange(branch.node.shape[1], device=bits_BK.device)
    state, level = (levels <= branch.depth[:, None]).nonzero(as_tuple=True)  # only nodes that there are
    ancestor = bits_BK[state] * (branch.set_at[state] <= level[:, None])  # the first `level` slots that are set
    out = evaluate(observation[state], ancestor)

    slot, _, exists = tree.children_of(branch.node[state, level])
    leads = torch.nn.functional.pad(branch.slot, (0, 1))[state, level]  # a value without meaning at the end
    rest = out[:, 1:].detach().gather(1, slot).masked_fill(~exists | (slot == leads[:, None]), -torch.inf).amax(1)

    def padded(values: Tensor) -> Tensor:
        return values.new_zeros(branch.node.shape).index_put((state, level), values)

    q_BL = padded(out[:, 0])
    return BranchValues(
        q_BL.gather(1, branch.depth[:, None])[:, 0],
        padded(out[:, 1:].gather(1, leads[:, None])[:, 0]),
        q_BL.detach(),
        padded(rest),
        tree.seen[branch.node] > 0,
        branch.depth,
    )


def branch_loss(
    values: BranchValues,
    target_B: Tensor,
    *,
    delta: float,
    weighting: str,
    average: str,
    replaces: bool,
    backs_up_unseen: bool,
) -> tuple[Tensor, Info]:
    """(q - Y)^2 and, up the branch, ((v_p[i] - Y) w_j)^2 at each parent p, whose best value is the next Y.

    Args:
        values: of the branches.
        target_B: Y at the joint actions.
        delta: w_j, at the j-th parent from the joint action, is delta^j (``power``) or delta j (``linear``).
        weighting: which of them.
        average: a sample's terms are summed and divided by its depth, then the mean is over samples (``sample``); or
            all terms of the minibatch have the same weight (``terms``).
        replaces: the next Y is max(q_p, max v_p) with Y in place of v_p[i]; otherwise with both of them.
        backs_up_unseen: q_p counts at nodes that the data do not have, too.
    """
    goal_B = target_B
    total_B = (values.q - goal_B).square()
    for level in reversed(range(values.own.shape[1] - 1)):
        here_B = level < values.depth
        step_B = (values.depth - level).clamp(min=1)
        weight_B = delta**step_B if weighting == "power" else delta * step_B
        chosen_B = values.chosen[:, level]
        term_B = ((chosen_B - goal_B) * weight_B).square()
        total_B = total_B + term_B.masked_fill(~here_B, 0.0)
        best_B = torch.maximum(values.rest[:, level], goal_B)
        if not replaces:
            best_B = torch.maximum(best_B, chosen_B.detach())
        own_B = values.own[:, level]
        if not backs_up_unseen:
            own_B = own_B.masked_fill(~values.seen[:, level], -torch.inf)
        goal_B = torch.where(here_B, torch.maximum(best_B, own_B), goal_B)
    if average == "sample":
        loss = (total_B / values.depth.clamp(min=1)).mean()
    else:
        loss = total_B.sum() / (values.depth + 1).sum()
    return loss, {"branch_loss": loss.detach(), "root_value": goal_B.mean()}


def td_loss(q_B: Tensor, target_B: Tensor) -> tuple[Tensor, Info]:
    """Mean of (q(s, a) - Y)^2."""
    loss = (q_B - target_B).square().mean()
    return loss, {"td_loss": loss.detach(), "q": q_B.detach().mean()}


def paper_target(
    reward: Tensor, goes_on_B: Tensor, next_q_B: Tensor, difference_BN: Tensor, gamma: float, value_weight: float
) -> Tensor:
    """Y = lambda (r + gamma q_target(s', a-hat')) - ||a-hat' - a'||, (B,), as the paper has it.

    Args:
        reward: (B,).
        goes_on_B: 0 where there is no next state to value.
        next_q_B: of the joint action that the traversal chooses at s'.
        difference_BN: a-hat' - a', 0 where a' is not known.
        gamma: discount factor.
        value_weight: lambda.
    """
    return value_weight * (reward + gamma * goes_on_B * next_q_B) - goes_on_B * difference_BN.norm(dim=-1)


def code_target(
    reward: Tensor,
    goes_on_B: Tensor,
    terminated: Tensor,
    next_q_B: Tensor,
    difference_BN: Tensor,
    gamma: float,
    value_weight: float,
) -> Tensor:
    """Y = r + gamma lambda q_target(s', a-hat') - (1 - terminated) ||a-hat' - a'||^2, (B,), as the results were made.

    Its arguments are those of ``paper_target``; ``goes_on_B`` masks the value alone.
    """
    distance_B = difference_BN.square().sum(-1)
    return reward + gamma * value_weight * goes_on_B * next_q_B - (1.0 - terminated) * distance_B
