"""Decisions on an action tree: BraVE's greedy traversal and its beam search (arXiv 2410.21151), batched over states.

Shapes: B states, F nodes under evaluation, S observation size, K slots, W beam width, C children.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from spin_rl.algorithms.objectives.action_tree import ActionTree

Evaluate = Callable[[Tensor, Tensor], Tensor]
"""From observations (F, S) and encoded joint actions (F, K) to [q, v_1, ..., v_K] (F, 1 + K)."""


def greedy(evaluate: Evaluate, tree: ActionTree, observation: Tensor) -> Tensor:
    """Encoded joint actions (B, K) of the data: from the root on to the child with the highest branch value.

    It ends at a node of the data whose own value is at least as high as all of its branch values.
    """
    node = torch.zeros(len(observation), dtype=torch.int64, device=observation.device)
    bits = torch.zeros((len(observation), tree.slots), device=observation.device)
    going = torch.arange(len(observation), device=observation.device)
    while len(going):
        out = evaluate(observation[going], bits[going])
        slot, child, exists = tree.children_of(node[going])
        branch_value = out[:, 1:].gather(1, slot).masked_fill(~exists, -torch.inf)
        best, which = branch_value.max(1, keepdim=True)
        stops = (out[:, :1] >= best) & (tree.seen[node[going]] > 0)[:, None] | ~exists.any(1, keepdim=True)
        on = ~stops[:, 0]
        going, which = going[on], which[on]
        node[going] = child[on].gather(1, which)[:, 0]
        bits[going, slot[on].gather(1, which)[:, 0]] = 1.0
    return bits


def beam(evaluate: Evaluate, tree: ActionTree, observation: Tensor, width: int) -> Tensor:
    """Encoded joint actions (B, K): of the data's joint actions that the search evaluates, the one with the highest q.

    A beam holds W nodes with their scores: an evaluated node's is its q, or minus infinity where the data do not have
    it, another's is the branch value that led to it. Each round evaluates the nodes that are not yet, and keeps the W
    best of all of them and their children, children first among equals. It ends when all are evaluated.

    The paper evaluates one node at a time, and takes the best entry that is left: that may be a node that was never
    evaluated, or one that the data do not have.
    """
    count = len(observation)
    score = torch.zeros((count, 1), device=observation.device)
    node = torch.zeros((count, 1), dtype=torch.int64, device=observation.device)
    bits = torch.zeros((count, 1, tree.slots), device=observation.device)
    waits = torch.ones((count, 1), dtype=torch.bool, device=observation.device)
    best, best_bits = torch.full_like(score[:, 0], -torch.inf), bits[:, 0]
    while bool(waits.any()):
        state, entry = waits.nonzero(as_tuple=True)
        out = evaluate(observation[state], bits[state, entry])
        slot, child, exists = tree.children_of(node[state, entry])
        score[state, entry] = out[:, 0].masked_fill(tree.seen[node[state, entry]] == 0, -torch.inf)
        value, where = score.max(1)
        better = value > best  # a node that left the beam may still be the best one
        best = torch.where(better, value, best)
        best_bits = torch.where(better[:, None], bits[torch.arange(count, device=bits.device), where], best_bits)

        entries, children = score.shape[1], slot.shape[1]
        offered = score.new_full((count, entries, children), -torch.inf)  # the children of every entry
        offered[state, entry] = out[:, 1:].gather(1, slot).masked_fill(~exists, -torch.inf)
        slots, nodes = (torch.zeros_like(offered, dtype=torch.int64) for _ in range(2))
        slots[state, entry], nodes[state, entry] = slot, child
        # (B, entries C) children, then (B, entries): a stable sort, for the same choice on every device
        scores, order = torch.cat([offered.flatten(1), score], 1).sort(dim=1, descending=True, stable=True)
        score, order = scores[:, :width], order[:, :width]
        is_child = order < entries * children
        parent = torch.where(is_child, order // children, order - entries * children)
        bits = bits.gather(1, parent[..., None].expand(-1, -1, tree.slots))
        here = order.clamp(max=entries * children - 1)
        set_bit = torch.where(is_child, slots.flatten(1).gather(1, here), 0)
        bits.scatter_add_(2, set_bit[..., None], is_child[..., None].to(bits.dtype))
        node = torch.where(is_child, nodes.flatten(1).gather(1, here), node.gather(1, parent))
        waits = is_child & (score > -torch.inf)
    return best_bits
