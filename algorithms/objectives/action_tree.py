"""The tree of the joint actions of a dataset (BraVE, arXiv 2410.21151, section 3.3 and figures 2 and 3).

A node is a joint action and the root is the one of all defaults (0). A child sets one sub-action behind the last one
that is set to another choice. Of two binary sub-actions and data with (0, 1) and (1, 1), nodes with their numbers:

             00 (0)
            /      \\
        10 (1)    01 (2)
          |
        11 (3)

The paper has binary sub-actions alone; with nvec, a node has up to sum(nvec_i - 1) children. Each is addressed by the
sub-action and the choice that it sets, its slot, where the published description numbers a node's own children.
Shapes: B states, N sub-actions, K = sum(nvec_i - 1) slots, W children, D depth.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from spin_rl.algorithms.objectives.data_buffers import DataBuffers


class Children(NamedTuple):
    """The children of B nodes, padded to the W of the node that has most of them, in the order of their slots."""

    slot: Tensor  # (B, W)
    node: Tensor  # (B, W)
    exists: Tensor  # (B, W) bool


class Branch(NamedTuple):
    """The nodes from the root to B joint actions, padded to the depth D of the deepest."""

    node: Tensor  # (B, D + 1); the root first
    slot: Tensor  # (B, D); what leads from a node to the next
    set_at: Tensor  # (B, K): how many slots are set when this one is, 0 for slots that are not
    depth: Tensor  # (B,): sub-actions that are not at their default


class ActionTree(DataBuffers):
    """The joint actions of a dataset and all their ancestors; nothing else is a node.

    Nodes are numbered by depth, and within a depth by their parent and slot: the children of a node follow each other,
    and ``key``, which says parent and slot, ascends. A node takes 17 bytes, and there are at most 1 + M N of them for
    M distinct joint actions. While they are made, so does each sub-action of the dataset that is not at its default.
    """

    sized_by_data = ("key", "seen", "first")
    key: Tensor  # (nodes,) int64: parent K + slot
    seen: Tensor  # (nodes,) uint8: whether the joint action is one of the data
    first: Tensor  # (nodes + 1,) int64: the first child; the children of a node end where those of the next begin
    start: Tensor  # (N,) the slot of choice 1 of each sub-action
    sub_action: Tensor  # (K,) of each slot
    choice: Tensor  # (K,) of each slot

    def __init__(self, nvec: Sequence[int]) -> None:
        super().__init__()
        others = torch.tensor([n - 1 for n in nvec])
        self.slots = int(others.sum())
        start = others.cumsum(0) - others
        sub_action = torch.arange(len(others)).repeat_interleave(others)
        self.register_buffer("start", start, persistent=False)
        self.register_buffer("sub_action", sub_action, persistent=False)
        self.register_buffer("choice", torch.arange(self.slots) - start[sub_action] + 1, persistent=False)
        # until there are data: the root alone
        self.register_buffer("key", torch.full((1,), -1))
        self.register_buffer("seen", torch.ones(1, dtype=torch.uint8))
        self.register_buffer("first", torch.ones(2, dtype=torch.int64))

    @property
    def nodes(self) -> int:
        """How many there are."""
        return len(self.key)

    def build(self, actions: Tensor) -> None:
        """Make the tree of joint actions (M, N), level by level."""
        row, sub_action = actions.nonzero(as_tuple=True)  # by rows, then by sub-actions
        slot = self.start[sub_action] + actions[row, sub_action].long() - 1
        depth = (actions != 0).sum(1)
        position = depth.cumsum(0) - depth  # of each row's first slot
        node = torch.zeros_like(depth)
        keys = [self.key.new_full((1,), -1)]
        count, level, going = 1, 0, torch.arange(len(actions), device=actions.device)
        ends = [node[depth == 0]]
        while len(going := going[depth[going] > level]):
            key, index = torch.unique(node[going] * self.slots + slot[position[going] + level], return_inverse=True)
            node[going] = count + index
            keys.append(key)
            count, level = count + len(key), level + 1
            ends.append(node[going[depth[going] == level]])
        self.key = torch.cat(keys)
        self.seen = self.seen.new_zeros(count)
        self.seen[torch.cat(ends)] = 1
        numbers = torch.arange(count + 1, device=self.key.device)
        self.first = torch.searchsorted(self.key, numbers * self.slots)

    def children_of(self, node: Tensor) -> Children:
        """The children of nodes (B,)."""
        first, end = self.first[node], self.first[node + 1]
        width = max(1, int((end - first).max())) if len(node) else 1
        child = first[:, None] + torch.arange(width, device=node.device)
        exists = child < end[:, None]
        child = child.masked_fill(~exists, 0)
        return Children((self.key[child] % self.slots).masked_fill(~exists, 0), child, exists)

    def branch(self, bits_BK: Tensor) -> Branch:
        """The way from the root to joint actions of the tree."""
        set_BK = bits_BK > 0
        depth = set_BK.sum(1)
        deepest = int(depth.max())
        slot = (~set_BK).int().sort(dim=1, stable=True).indices[:, :deepest]  # set slots first, in their order
        node = [torch.zeros_like(depth)]
        for level in range(deepest):
            following = torch.searchsorted(self.key, node[-1] * self.slots + slot[:, level])
            node.append(torch.where(level < depth, following, node[-1]))
        return Branch(torch.stack(node, 1), slot, set_BK.cumsum(1) * set_BK, depth)

    def encode(self, action_BN: Tensor) -> Tensor:
        """Joint actions (B, N) as (B, K), 1 at the slots that are set: with binary sub-actions, themselves."""
        bits = torch.zeros((len(action_BN), self.slots + 1), device=action_BN.device)
        place = torch.where(action_BN > 0, self.start + action_BN - 1, self.slots)
        return bits.scatter_(1, place, 1.0)[:, :-1]

    def decode(self, bits_BK: Tensor) -> Tensor:
        """The joint actions (B, N) of ``encode``."""
        action = torch.zeros((len(bits_BK), len(self.start)), dtype=torch.int64, device=bits_BK.device)
        return action.index_add_(1, self.sub_action, bits_BK.long() * self.choice)
