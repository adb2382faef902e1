"""The tree of a dataset's joint actions and the searches on it, against recursive references without tensors."""

import itertools

import numpy as np
import pytest
import torch

from spin_rl.algorithms.objectives.action_tree import ActionTree
from spin_rl.algorithms.objectives.tree_search import beam, greedy

CASES = [
    ((2, 2, 2), 5),
    ((3, 2, 4), 6),
    ((3, 2, 4), 24),
    ((2, 5, 1, 3), 9),
    ((4, 1, 2, 2, 3), 20),
    ((2,) * 8, 60),
]
cases = pytest.mark.parametrize(("nvec", "count"), CASES)


def random_actions(nvec, count, seed=0):
    """``count`` distinct joint actions, each drawn up to three times, in any order."""
    generator = np.random.default_rng(seed)
    everything = np.array(list(itertools.product(*(range(n) for n in nvec))))
    chosen = everything[generator.permutation(len(everything))[:count]]
    return torch.from_numpy(generator.permutation(np.repeat(chosen, generator.integers(1, 4, len(chosen)), axis=0)))


def make_tree(nvec, count, seed=0):
    actions = random_actions(nvec, count, seed)
    tree = ActionTree(nvec)
    tree.build(actions)
    return tree, {tuple(map(int, action)) for action in actions}


class PlainTree:
    """The same by sets of tuples: values of a joint action come from a table that is filled by a hash of it."""

    def __init__(self, nvec, seen):
        self.nvec, self.seen = nvec, seen
        self.slots = [(i, c) for i, n in enumerate(nvec) for c in range(1, n)]
        self.branch = {self.prefix(action, i) for action in seen for i in range(len(nvec) + 1)}

    @staticmethod
    def prefix(action, length):
        return action[:length] + (0,) * (len(action) - length)

    def values(self, state, action):
        """[q, v_1, ...] of a joint action, any function that differs between states and joint actions."""
        code = int(sum(c * 7**i for i, c in enumerate(action)))
        return np.random.default_rng((state, code)).normal(size=1 + len(self.slots)).astype(np.float32)

    def children(self, action):
        """(slot, child) of the children that exist."""
        last = max((i for i, c in enumerate(action) if c), default=-1)
        found = []
        for slot, (i, choice) in enumerate(self.slots):
            child = (*action[:i], choice, *action[i + 1 :])
            if i > last and child in self.branch:
                found.append((slot, child))
        return found

    def greedy(self, state, action):
        q, *v = self.values(state, action)
        below = self.children(action)
        if not below:
            return action
        slot, child = max(below, key=lambda each: v[each[0]])
        if q >= v[slot] and action in self.seen:
            return action
        return self.greedy(state, child)

    def beam(self, state, width):
        """Lists in place of tensors: entries are (score, joint action, whether it waits)."""
        entries, best = [(0.0, (0,) * len(self.nvec), True)], (-np.inf, None)
        while any(waits for *_, waits in entries):
            offered, kept = [], []
            for score, action, waits in entries:
                if waits:
                    q, *v = self.values(state, action)
                    score = q if action in self.seen else -np.inf
                    best = max(best, (score, action), key=lambda each: each[0])
                    offered += [(v[slot], child, True) for slot, child in self.children(action)]
                kept.append((score, action, False))
            entries = sorted(offered + kept, key=lambda each: -each[0])[:width]
            entries = [entry for entry in entries if entry[0] > -np.inf]
        return best[1]

    def evaluate(self, tree):
        """Its values as the searches ask for them; observations hold the number of the state."""

        def of(observation, bits):
            actions = tree.decode(bits).tolist()
            return torch.tensor(
                np.array([self.values(int(s), tuple(a)) for s, a in zip(observation, actions, strict=True)])
            )

        return of


@cases
def test_a_tree_has_the_joint_actions_of_the_data_and_their_ancestors_alone(nvec, count):
    tree, seen = make_tree(nvec, count)
    plain = PlainTree(nvec, seen)
    assert tree.nodes == len(plain.branch)
    assert int(tree.seen.sum()) == len(seen)
    number = {(0,) * len(nvec): 0}
    for action in sorted(plain.branch, key=lambda each: sum(c > 0 for c in each)):
        node = torch.tensor([number[action]])
        children = tree.children_of(node)
        expected = plain.children(action)
        assert children.slot[children.exists].tolist() == [slot for slot, _ in expected]
        number |= {child: int(n) for (_, child), n in zip(expected, children.node[children.exists], strict=True)}
        assert bool(tree.seen[node]) == (action in seen)
    assert sorted(number.values()) == list(range(tree.nodes))

    actions = torch.tensor(sorted(plain.branch))
    bits = tree.encode(actions)
    assert bits.shape == (len(actions), sum(nvec) - len(nvec))
    torch.testing.assert_close(tree.decode(bits), actions)
    branch = tree.branch(bits)
    for row, action in enumerate(actions.tolist()):
        path = {PlainTree.prefix(tuple(action), i) for i in range(len(nvec) + 1)}
        path = sorted(path, key=lambda each: sum(map(bool, each)))
        depth = int(branch.depth[row])
        assert depth == len(path) - 1
        assert branch.node[row, : depth + 1].tolist() == [number[each] for each in path]
        assert [tree.choice[s].item() for s in branch.slot[row, :depth]] == [c for c in action if c]


def test_binary_joint_actions_are_encoded_as_themselves():
    actions = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1]])
    torch.testing.assert_close(ActionTree((2, 2, 2)).encode(actions), actions.float())


@cases
@pytest.mark.parametrize("seed", range(3))
def test_greedy_traversal_is_the_recursive_one_and_ends_at_joint_actions_of_the_data(nvec, count, seed):
    tree, seen = make_tree(nvec, count, seed)
    plain = PlainTree(nvec, seen)
    states = range(100 * seed, 100 * seed + 40)
    found = tree.decode(greedy(plain.evaluate(tree), tree, torch.tensor(states)[:, None])).tolist()
    assert found == [list(plain.greedy(state, (0,) * len(nvec))) for state in states]
    assert {tuple(action) for action in found} <= seen


@cases
@pytest.mark.parametrize("width", [1, 2, 5])
def test_beam_search_is_the_plain_one_and_finds_joint_actions_of_the_data(nvec, count, width):
    tree, seen = make_tree(nvec, count)
    plain = PlainTree(nvec, seen)
    found = tree.decode(beam(plain.evaluate(tree), tree, torch.arange(40)[:, None], width)).tolist()
    assert found == [list(plain.beam(state, width)) for state in range(40)]
    assert {tuple(action) for action in found} <= seen


@cases
def test_a_beam_that_holds_the_whole_tree_finds_the_best_joint_action_of_the_data(nvec, count):
    tree, seen = make_tree(nvec, count)
    plain = PlainTree(nvec, seen)
    found = tree.decode(beam(plain.evaluate(tree), tree, torch.arange(20)[:, None], tree.nodes)).tolist()
    best = [max(seen, key=lambda action: plain.values(state, action)[0]) for state in range(20)]
    assert found == [list(action) for action in best]


def test_one_state_is_decided_as_in_a_batch():
    tree, seen = make_tree((3, 2, 4), 12)
    evaluate, states = PlainTree((3, 2, 4), seen).evaluate(tree), torch.arange(15)[:, None]
    for search in (lambda s: greedy(evaluate, tree, s), lambda s: beam(evaluate, tree, s, 3)):
        torch.testing.assert_close(torch.cat([search(state[None]) for state in states]), search(states))


def test_a_tree_of_38_sub_actions_enumerates_nothing():
    generator = torch.Generator().manual_seed(0)
    nvec = (30,) * 38  # 10^56 joint actions
    actions = torch.randint(30, (500, 38), generator=generator)
    tree = ActionTree(nvec)
    tree.build(actions)
    assert tree.nodes <= 1 + 500 * 38
    assert int(tree.seen.sum()) == 500
    chosen = tree.decode(greedy(lambda s, bits: torch.rand(len(s), 1 + 38 * 29), tree, torch.zeros(20, 1)))
    assert {tuple(each) for each in chosen.tolist()} <= {tuple(each) for each in actions.tolist()}


def test_a_tree_takes_the_sizes_of_the_state_that_it_is_loaded_from():
    tree, _ = make_tree((3, 2, 4), 12)
    other = ActionTree((3, 2, 4))
    assert other.nodes == 1
    other.load_state_dict(tree.state_dict())
    assert other.nodes == tree.nodes
    for name, value in tree.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
