"""BraVE: its losses against recursive ones in NumPy, prioritised replay, resuming, learning."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from test_action_tree import CASES, PlainTree, make_tree
from torch import Tensor

from spin_rl.algorithms.data.batches import DeviceTransitions
from spin_rl.algorithms.evaluation.batch_policy import ActingPolicy
from spin_rl.algorithms.objectives import BraVESettings
from spin_rl.algorithms.objectives.branch_loss import BranchValues, branch_loss, branch_values
from spin_rl.algorithms.objectives.prioritised import Priorities
from spin_rl.algorithms.presets import get_preset
from spin_rl.algorithms.training.agent import AgentSpec, OfflineAgent
from spin_rl.algorithms.training.checkpoints import load_objective, save_agent_spec
from spin_rl.algorithms.training.seeds import SeedsAgent
from spin_rl.envs import get_task
from spin_rl.errors import UserError
from spin_rl.platform.datasets import open_dataset
from spin_rl.platform.datasets.collect import make_dataset
from spin_rl.platform.evaluation.episodes import evaluate
from tests.algorithms.toy_agent import NVEC, OBSERVATION, assert_same_bits

CPU = torch.device("cpu")


def brave_agent(seed: int = 0, **settings: object) -> OfflineAgent:
    chosen = BraVESettings(critic_width=16, learning_rate=1e-3, gamma=0.9, **settings)
    return OfflineAgent(AgentSpec("brave", OBSERVATION, NVEC, get_preset("tiny"), chosen, 16, seed))


def plain_branch_loss(tree: PlainTree, states, actions, targets, s) -> float:
    """Up the branches with tuples and floats; ``s`` are the keyword arguments of ``branch_loss``."""
    samples, terms = [], 0
    for state, action, target in zip(states, actions, targets, strict=True):
        goal, node, j = float(target), tuple(action), 0
        total = (tree.values(state, node)[0] - goal) ** 2
        while any(node):
            last = max(i for i, c in enumerate(node) if c)
            slot = tree.slots.index((last, node[last]))
            parent = (*node[:last], *[0] * (len(node) - last))
            q, *v = map(float, tree.values(state, parent))
            j += 1
            weight = s["delta"] ** j if s["weighting"] == "power" else s["delta"] * j
            total += ((v[slot] - goal) * weight) ** 2
            candidates = [v[other] for other, _ in tree.children(parent) if other != slot] + [goal]
            candidates += [] if s["replaces"] else [v[slot]]
            candidates += [q] if s["backs_up_unseen"] or parent in tree.seen else []
            goal, node = max(candidates), parent
        samples.append(total / (max(j, 1) if s["average"] == "sample" else 1))
        terms += j + 1
    return float(np.mean(samples)) if s["average"] == "sample" else float(np.sum(samples)) / terms


@pytest.mark.parametrize(("nvec", "count"), CASES)
@pytest.mark.parametrize(
    ("weighting", "average", "replaces", "backs_up_unseen", "delta"),
    [
        ("power", "sample", True, True, 0.7),
        ("linear", "terms", False, True, 1.0),
        ("linear", "sample", True, False, 0.5),
        ("power", "terms", False, False, 1.3),
    ],
)
def test_the_branch_loss_is_the_recursive_one(nvec, count, weighting, average, replaces, backs_up_unseen, delta):
    tree, seen = make_tree(nvec, count)
    plain = PlainTree(nvec, seen)
    generator = np.random.default_rng(0)
    actions = np.array(sorted(seen))[generator.integers(len(seen), size=30)]
    states, targets = np.arange(30), generator.normal(size=30).astype(np.float32)
    bits = tree.encode(torch.from_numpy(actions))
    values = branch_values(plain.evaluate(tree), tree, torch.from_numpy(states)[:, None], bits)
    options = {
        "delta": delta,
        "weighting": weighting,
        "average": average,
        "replaces": replaces,
        "backs_up_unseen": backs_up_unseen,
    }
    loss, info = branch_loss(values, torch.from_numpy(targets), **options)
    assert float(loss) == pytest.approx(plain_branch_loss(plain, states, actions.tolist(), targets, options), rel=1e-5)
    assert info["branch_loss"] == loss


def test_no_gradient_flows_through_targets():
    tree, seen = make_tree(NVEC, 12)
    agent = brave_agent()
    actions = torch.tensor(sorted(seen))
    observation = torch.randn(len(actions), OBSERVATION)
    values = branch_values(agent.objective.network, tree, observation, tree.encode(actions))
    assert values.q.requires_grad
    assert values.chosen.requires_grad
    assert not values.own.requires_grad
    assert not values.rest.requires_grad
    free = BranchValues(values.q.detach(), values.chosen.detach().requires_grad_(), *values[2:])
    loss, _ = branch_loss(
        free, torch.zeros(len(actions)), delta=1.0, weighting="linear", average="terms", replaces=False,
        backs_up_unseen=True,
    )  # fmt: skip
    loss.backward()
    # the deepest branch values are compared with the fixed target 0: their gradient is that of their own square alone
    terms = float((values.depth + 1).sum())
    for row, depth in enumerate(values.depth.tolist()):
        if depth:
            grad = float(free.chosen.grad[row, depth - 1])
            assert grad == pytest.approx(2 * float(values.chosen[row, depth - 1].detach()) / terms, rel=1e-5)


@pytest.mark.parametrize("target", ["paper", "code"])
@pytest.mark.parametrize("mask_terminal", [None, True, False])
def test_targets_value_the_traversal_at_the_next_state(toy, target, mask_terminal):
    agent = brave_agent(target=target, mask_terminal=mask_terminal, value_weight=0.4)
    data = DeviceTransitions(toy, CPU)
    agent.train(data, 30)  # network and target differ
    objective = agent.objective.eval()
    assert not torch.equal(objective.network.net[0].weight, objective.target_network.net[0].weight)
    batch = data.gather(torch.arange(200))
    with torch.no_grad():
        found = objective.target_values(batch, data).numpy()
    seen = {tuple(map(int, action)) for action in toy.actions[toy.transitions]}
    plain = PlainTree(NVEC, seen)
    chooser = objective.target_network if target == "paper" else objective.network
    starts = set(toy.transitions.tolist())
    masked = target == "paper" if mask_terminal is None else mask_terminal
    kinds = set()
    for k in range(200):
        row = int(toy.transitions[k])
        observation = torch.from_numpy(toy.observations[row + 1].copy())

        def values(network, action, observation=observation) -> Tensor:
            bits = [float(action[i] == c) for i, c in plain.slots]
            with torch.no_grad():
                return network(observation[None], torch.tensor([bits]))[0]

        plain.values = lambda _, action: values(chooser, action).numpy()
        chosen = plain.greedy(0, (0, 0, 0))
        next_q = float(values(objective.target_network, chosen)[0])
        terminated = bool(toy.terminated[row])
        next_action = toy.actions[row + 1] if row + 1 in starts and not terminated else chosen
        kinds.add((terminated, row + 1 in starts))
        difference = [(c - d) / (n - 1) for c, d, n in zip(chosen, next_action, NVEC, strict=True)]
        distance = sum(d**2 for d in difference)
        goes_on = 0.0 if masked and terminated else 1.0
        reward = float(toy.rewards[row])
        if target == "paper":
            expected = 0.4 * (reward + 0.9 * goes_on * next_q) - distance**0.5
        else:
            expected = reward + 0.9 * 0.4 * goes_on * next_q - distance
        assert found[k] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert kinds == {(True, False), (False, False), (False, True)}


def test_an_update_moves_the_network_and_copies_it_every_so_often(toy):
    agent = brave_agent(target_every=3, prioritised=False)
    data = DeviceTransitions(toy, CPU)
    network, target = agent.objective.network, agent.objective.target_network

    def same() -> bool:
        return all(torch.equal(*pair) for pair in zip(network.parameters(), target.parameters(), strict=True))

    assert same()
    assert [agent.train(data, 1) and same() for _ in range(7)] == [False, False, True, False, False, True, False]
    assert not any(parameter.requires_grad for parameter in target.parameters())
    assert agent.objective.optimizers["network"].optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * 0.99995**6)


def test_its_losses_are_what_it_logs(toy):
    """With uniform minibatches, where the test knows them: alpha weighs the loss at the joint action."""
    agent = brave_agent(prioritised=False, td_weight=3.0)
    data = DeviceTransitions(toy, CPU)
    agent.prepare(data)
    objective = agent.objective
    batch = data.gather(agent.draw_for(data)(0, 1)[0])
    with torch.no_grad():
        target = objective.target_values(batch, data)
    values = branch_values(objective.network, objective.tree, batch.observation, objective.tree.encode(batch.action))
    loss, _ = branch_loss(
        values, target, delta=1.0, weighting="linear", average="terms", replaces=False, backs_up_unseen=True
    )
    total = loss + 3.0 * (values.q - target).square().mean()
    expected = torch.autograd.grad(total, list(objective.network.parameters()))
    info = agent.train(data, 1)
    assert info["branch_loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
    assert info["td_loss"] == pytest.approx(float((values.q.detach() - target).square().mean()), rel=1e-5)
    for parameter, gradient in zip(objective.network.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


def test_priorities_are_drawn_in_proportion_and_follow_the_errors(toy):
    priorities = Priorities()
    priorities.prepare(4)
    torch.manual_seed(0)
    priorities.set(torch.tensor([0, 1, 3]), torch.tensor([-3.0, 0.0, 6.0]))
    drawn = torch.bincount(priorities.draw(20_000), minlength=4) / 20_000
    torch.testing.assert_close(drawn, torch.tensor([0.3, 0.0, 0.1, 0.6]), rtol=0, atol=0.015)
    kept = priorities.priority.clone()
    priorities.prepare(4)
    assert torch.equal(priorities.priority, kept)

    agent = brave_agent()
    data = DeviceTransitions(toy, CPU)
    agent.train(data, 1)
    changed = agent.objective.priorities.priority != 1
    assert 1 <= int(changed.sum()) <= 16


@pytest.mark.parametrize("settings", [{}, {"target": "paper", "prioritised": False, "target_every": 0}])
def test_a_resumed_run_has_the_same_bits_and_a_saved_one_acts_alike(toy, tmp_path, settings):
    data = DeviceTransitions(toy, CPU)
    straight = brave_agent(**settings)  # each is made when it starts: torch's generator is the process's
    straight.train(data, 53)
    losses = straight.train(data, 20)
    first = brave_agent(**settings)
    first.train(data, 53)
    state = first.state()
    second = brave_agent(**settings)
    second.load_state(*state)
    assert second.train(data, 20) == losses
    assert_same_bits(second.state()[0], straight.state()[0])
    assert brave_agent(1, **settings).train(data, 20) != brave_agent(**settings).train(data, 20)
    assert brave_agent(**settings).train(data, 20) == brave_agent(**settings).train(data, 20)

    tensors = second.state()[0]
    save_file(tensors, tmp_path / "learner.safetensors")
    save_agent_spec(second.spec, tmp_path)
    assert_same_bits(load_file(tmp_path / "learner.safetensors"), tensors)
    read = load_objective(tmp_path)
    observation = torch.randn(50, OBSERVATION)
    with torch.inference_mode():
        chosen = read.decide(observation, None, sample=False)
        torch.testing.assert_close(chosen, second.objective.decide(observation, None, sample=False))
    assert {tuple(each) for each in chosen.tolist()} <= {tuple(map(int, a)) for a in toy.actions[toy.transitions]}
    assert read.draws(sample=True) == read.draws(sample=False) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target": "pape"}, "pape"),
        ({"depth_weighting": "cubic"}, "cubic"),
        ({"average": "median"}, "median"),
        ({"hidden_layers": 0}, "hidden_layers=0"),
        ({"rate_decay": 0.0}, "rate_decay=0.0"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        BraVESettings(**settings)


def test_a_problem_with_one_joint_action_is_refused():
    spec = replace(brave_agent().spec, nvec=(1, 1))
    with pytest.raises(UserError, match="at least two choices"):
        OfflineAgent(spec)


def test_several_seeds_at_once_are_refused():
    with pytest.raises(UserError, match="Several seeds of brave are not trained at once"):
        SeedsAgent(brave_agent().spec, (0, 1))


def test_it_goes_straight_to_the_goal_on_data_that_seldom_do(tmp_path):
    """The published table's +1.5 of two dimensions: no other way of four steps, the fewest, has this return."""
    task = get_task("cone-2x5-0inner", 2)
    make_dataset(task, "medium", 3000, root=tmp_path, workers=0)
    dataset = open_dataset(task.name, "medium", bins=2, root=tmp_path)
    assert dataset.returns().mean() < -50
    settings = BraVESettings(critic_width=64, learning_rate=2e-3, gamma=0.9, hidden_layers=2)
    agent = OfflineAgent(AgentSpec("brave", 2, (2,) * 4, get_preset("tiny"), settings, 64))
    agent.train(DeviceTransitions(dataset, CPU), 250)
    result = evaluate(task, ActingPolicy(agent.objective.eval(), CPU, sample=False), episodes=1)
    assert result.return_mean == pytest.approx(1.51, abs=0.01)
