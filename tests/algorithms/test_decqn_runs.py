"""Value decomposition as it is used: normalised data, sizes, a reference with all joint actions, and what it learns."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spin_rl.algorithms.data.batches import DeviceTransitions
from spin_rl.algorithms.data.moments import state_moments
from spin_rl.algorithms.methods import METHODS
from spin_rl.algorithms.objectives import OBJECTIVES
from spin_rl.algorithms.objectives.decqn import dqn_cql
from spin_rl.algorithms.presets import get_preset
from spin_rl.algorithms.settings import TrainingSettings, check_trial
from spin_rl.algorithms.training.agent import AgentSpec, OfflineAgent, build_objective
from spin_rl.errors import UserError
from spin_rl.platform.asm_store.store import asm_root
from spin_rl.sweeps.planning.builder import PlanBuilder
from tests.algorithms.toy_agent import NVEC, OBSERVATION, random_batch

CPU = torch.device("cpu")
FAMILY = [name for name, method in METHODS.items() if name.startswith("decqn") or name in ("factorised-bc", "dqn-cql")]


@pytest.mark.parametrize("rows", [1, 7, 100_000])
def test_moments_are_those_of_the_transitions_states(toy, rows):
    """Not of the states that end episodes, of which the toy has one in every twelve."""
    chosen = np.asarray(toy.transitions[5:405])
    data = DeviceTransitions(toy, CPU, chosen)
    mean, deviation = state_moments(data, rows)
    states = np.asarray(toy.observations)[chosen].astype(np.float64)
    np.testing.assert_allclose(mean, states.mean(0), rtol=1e-6)
    np.testing.assert_allclose(deviation, states.std(0), rtol=1e-6)


def test_moments_of_a_large_offset_keep_their_digits():
    states = (1e6 + np.random.default_rng(0).integers(0, 2, (300, 2))).astype(np.float32)
    data = DeviceTransitions(bandit_data(states, np.zeros((300, 3)), np.zeros(300)), CPU)
    np.testing.assert_allclose(state_moments(data, 64)[1], states.astype(np.float64).std(0), rtol=1e-6)


def test_a_dimension_that_does_not_vary_is_zero_and_the_moments_are_part_of_a_checkpoint():
    states = np.random.default_rng(0).normal(size=(200, OBSERVATION)).astype(np.float32) * [1.0, 5.0, 0.0] + 3.0
    data = DeviceTransitions(bandit_data(states, np.zeros((200, 3)), np.zeros(200)), CPU)
    agent = OfflineAgent(make_spec("decqn"))
    agent.prepare(data)
    tensors, values = agent.state()
    np.testing.assert_allclose(tensors["networks.deviation"], states.std(0) + 1e-3, rtol=1e-5)
    other = OfflineAgent(make_spec("decqn"))
    other.load_state(tensors, values)
    seen = other.objective.normalised(torch.tensor(states).float())
    np.testing.assert_allclose(seen.mean(0), 0.0, atol=1e-5)
    np.testing.assert_allclose(seen.std(0, correction=0), [1.0, 1.0, 0.0], atol=2e-3)


@pytest.mark.parametrize("name", FAMILY)
def test_networks_see_normalised_states_in_training_and_in_evaluation(toy, name):
    """Data in other units train the same networks, which act alike on observations in these units."""

    def trained(scale: float, shift: float) -> OfflineAgent:
        observations = np.asarray(toy.observations, dtype=np.float64) * scale + shift
        arrays = {key: getattr(toy, key) for key in ("actions", "rewards", "terminated", "transitions", "meta")}
        data = DeviceTransitions(SimpleNamespace(observations=observations.astype(np.float32), **arrays), CPU)
        agent = OfflineAgent(make_spec(name))
        agent.train(data, 10)
        agent.objective.eval()
        return agent

    plain, other = trained(1.0, 0.0), trained(8.0, 24.0)
    observation = torch.randn(50, OBSERVATION)
    with torch.no_grad():
        actions = [
            agent.objective.decide(seen, None, sample=False)
            for agent, seen in ((plain, observation), (other, 8.0 * observation + 24.0))
        ]
        unseen = other.objective.decide(observation, None, sample=False)
    assert (actions[0] == actions[1]).float().mean() > 0.97
    assert (unseen != actions[0]).any()


def make_spec(name: str, **settings) -> AgentSpec:
    known = OBJECTIVES[name].settings_class(critic_width=16, **settings)
    return AgentSpec(name, OBSERVATION, NVEC, get_preset("tiny"), known, batch_size=16)


@pytest.mark.parametrize("name", FAMILY)
def test_the_preset_sizes_every_network(name):
    for preset, width in (("paper", 512), ("small", 256), ("tiny", 16)):
        settings = TrainingSettings(method_name=name, objective=name, preset=preset).objective_settings()
        assert settings.critic_width == width
        objective = OBJECTIVES[name](None, 3, NVEC, settings)
        assert {value.shape[-1] for key, value in objective.named_parameters() if key.endswith("0.bias")} == {width}
    check_trial({"algorithm": name, "objective": name, "utility_width": 8})


def test_dqn_cql_of_one_sub_action_is_decqn_cql_bit_for_bit():
    made = []
    for name in ("dqn-cql", "decqn-cql"):
        torch.manual_seed(0)
        objective = OBJECTIVES[name](None, OBSERVATION, (5,), OBJECTIVES[name].settings_class(critic_width=8))
        objective.make_optimizers()
        made.append(objective)
    for _ in range(5):
        batch = random_batch(16)._replace(action=torch.randint(0, 5, (16, 1)))
        losses = [objective.update(batch) for objective in made]
        assert losses[0] == losses[1]
    observation = torch.randn(50, OBSERVATION)
    assert torch.equal(*(objective.decide(observation, None, sample=False) for objective in made))


def test_dqn_cql_numbers_joint_actions_and_back():
    objective = build_objective(make_spec("dqn-cql"))
    assert objective.utilities.layers[-1].bias.shape[-1] == math.prod(NVEC)
    for number, action in enumerate(np.ndindex(*NVEC)):
        for parameter in objective.utilities.parameters():
            parameter.data.zero_()
        objective.utilities.layers[-1].bias.data[..., number] = 1.0
        chosen = objective.decide(torch.zeros(1, OBSERVATION), None, sample=False)
        assert tuple(chosen[0].tolist()) == action
        assert int((torch.tensor([action]) * objective.strides).sum()) == number


def test_dqn_cql_refuses_a_large_action_space_before_data_is_read(small_data, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="each of the 1,048,576 joint actions, and takes 10,000 at most: decqn-cql is"):
        OBJECTIVES["dqn-cql"].check_actions((4,) * 10)
    point = {"task": "cheetah-run", "bins": 3, "level": "medium-expert", "algorithm": "dqn-cql", "objective": "dqn-cql"}
    point |= {"preset": "tiny", "seed": 0, "updates": 4, "evaluations": 2, "episodes": 1}
    builder = PlanBuilder(str(small_data), asm_root(tmp_path))
    builder.trial(point)
    monkeypatch.setattr(dqn_cql, "MOST_JOINT_ACTIONS", 700)
    with pytest.raises(UserError, match="each of the 729 joint actions, and takes 700 at most"):
        builder.trial(point)


def bandit_data(states: np.ndarray, actions: np.ndarray, rewards: np.ndarray) -> SimpleNamespace:
    """Episodes of one transition, as a dataset has them: a state and the one after it in successive rows."""
    return SimpleNamespace(
        observations=np.repeat(states, 2, 0).astype(np.float32),
        actions=np.repeat(actions, 2, 0).astype(np.int16),
        rewards=np.repeat(rewards, 2).astype(np.float32),
        terminated=np.ones(2 * len(states), dtype=bool),
        transitions=np.arange(0, 2 * len(states), 2),
        meta=SimpleNamespace(digest="bandit"),
    )


@pytest.fixture(scope="module")
def bandit() -> tuple[DeviceTransitions, torch.Tensor, np.ndarray]:
    """A behaviour that is wrong four times out of ten, and most often the same way; which choice is right depends on
    the state. The data, states, and their best actions."""
    random = np.random.default_rng(0)
    states = random.normal(size=(4000, OBSERVATION)) * [1.0, 100.0, 0.01] + [0.0, 500.0, 0.0]
    best = np.where(states[:, :1] > 0, [[2, 1, 3]], [[0, 0, 1]])
    usual = (best + 1) % np.array(NVEC)  # the behaviour's favourite, which is never the best
    drawn = np.stack([random.integers(0, n, 4000) for n in NVEC], 1)
    actions = np.where(random.random((4000, 3)) < 0.4, usual, drawn)
    rewards = (actions == best).mean(1) * 4.0
    return DeviceTransitions(bandit_data(states, actions, rewards), CPU), torch.tensor(states).float(), best


@pytest.mark.parametrize("name", FAMILY)
def test_the_best_joint_action_is_found_although_the_behaviour_prefers_another(bandit, name):
    """Would fail where values are of the wrong choices, states or units; cloning alone fails, as it must."""
    data, states, best = bandit
    # the usual threshold admits the behaviour's favourites alone, and every joint action is rare
    own = {"decqn-bcq": {"threshold": 0.15}, "dqn-cql": {"cql_alpha": 0.01}}.get(name, {})
    settings = OBJECTIVES[name].settings_class(critic_width=32, learning_rate=3e-3, **own)
    agent = OfflineAgent(AgentSpec(name, OBSERVATION, NVEC, get_preset("tiny"), settings, batch_size=128))
    agent.train(data, 400)
    agent.objective.eval()
    with torch.no_grad():
        right = agent.objective.decide(states, None, sample=False).numpy() == best
    if name == "factorised-bc":
        assert right.all(1).mean() < 0.05
    else:
        assert right.all(1).mean() > 0.8, right.mean(0)
