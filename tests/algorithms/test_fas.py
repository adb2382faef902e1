"""FAS: its losses against NumPy, its variants, resuming; and what an additive Q cannot represent."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from spin_rl.algorithms.data.batches import DeviceTransitions
from spin_rl.algorithms.objectives import BraVESettings, FASSettings
from spin_rl.algorithms.objectives.fas import VARIANTS, admissible
from spin_rl.algorithms.objectives.tree_search import greedy
from spin_rl.algorithms.presets import get_preset
from spin_rl.algorithms.training.agent import AgentSpec, OfflineAgent
from spin_rl.algorithms.training.checkpoints import load_objective, save_agent_spec
from spin_rl.errors import UserError
from tests.algorithms.toy_agent import NVEC, OBSERVATION, assert_same_bits, random_batch

CPU = torch.device("cpu")


def fas_agent(seed: int = 0, **settings: object) -> OfflineAgent:
    chosen = FASSettings(critic_width=16, learning_rate=1e-3, gamma=0.9, **settings)
    return OfflineAgent(AgentSpec("fas", OBSERVATION, NVEC, get_preset("tiny"), chosen, 16, seed))


def outputs(network, observation) -> list[np.ndarray]:
    """The values (B, nvec[i]) of each sub-action by loops over layers: they lie one after the other."""
    x = observation.double().numpy()
    layers = [module for module in network.net if isinstance(module, torch.nn.Linear)]
    for index, layer in enumerate(layers):
        x = x @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()
        x = np.maximum(x, 0) if index < len(layers) - 1 else x
    return np.split(x, np.cumsum(NVEC)[:-1], axis=1)


def log_softmax(x: np.ndarray) -> np.ndarray:
    return x - np.log(np.exp(x).sum(1, keepdims=True))


@pytest.mark.parametrize(("variant", "hidden_layers"), [("tang", 2), ("brave", 3)])
def test_an_update_regresses_to_the_target_networks_value_of_the_best_admissible_action(variant, hidden_layers):
    agent = fas_agent(variant=variant, prioritised=False, threshold=0.8)
    objective = agent.objective
    torch.manual_seed(1)
    for parameter in objective.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))  # critic and target differ, some choices are rare
    assert len(objective.critic.net) == 2 * hidden_layers + 1
    batch = random_batch(64)
    q, next_q = (outputs(objective.critic, at) for at in (batch.observation, batch.next_observation))
    target_q = outputs(objective.target_critic, batch.next_observation)
    logits, next_logits = (outputs(objective.clone, at) for at in (batch.observation, batch.next_observation))
    action = batch.action.numpy()
    critic, nll, restricted = 0.0, np.zeros(3), 0
    for b in range(64):
        value = 0.0
        for i in range(3):
            probability = np.exp(log_softmax(next_logits[i])[b])
            allowed = probability / probability.max() > 0.8
            restricted += int((~allowed).sum())
            value += target_q[i][b, max(np.flatnonzero(allowed), key=lambda c: next_q[i][b, c])]
            nll[i] -= log_softmax(logits[i])[b, action[b, i]] / 64
        target = float(batch.reward[b]) + 0.9 * (1 - float(batch.terminated[b])) * value
        error = abs(sum(q[i][b, action[b, i]] for i in range(3)) - target)
        critic += (error**2 / 2 if error < 1 else error - 0.5) / 64
    assert restricted > 20
    info = objective.update(batch)
    assert float(info["critic_loss"]) == pytest.approx(critic, rel=1e-4)
    assert float(info["clone_loss"]) == pytest.approx(nll.sum() if variant == "tang" else nll.mean(), rel=1e-4)
    penalty = np.concatenate([each.ravel() for each in logits])
    assert float(info["logit_penalty"]) == pytest.approx(float((penalty**2).mean()), rel=1e-4)


def test_the_gradient_is_that_of_the_whole_loss_with_weight_decay_beside_it():
    agent = fas_agent(logit_penalty=0.5)
    objective, batch = agent.objective, random_batch(32)
    (group,) = objective.optimizers["critic_and_clone"].optimizer.param_groups
    assert group["weight_decay"] == VARIANTS["tang"]["weight_decay"]
    logits = objective.clone(batch.observation)
    log_prob = logits.log_softmax(-1).gather(-1, batch.action[..., None])[..., 0]
    exist = logits[:, ~objective.clone.missing]
    expected = torch.autograd.grad(-log_prob.sum(1).mean() + 0.5 * exist.square().mean(), objective.clone.parameters())
    objective.update(batch)
    for parameter, gradient in zip(objective.clone.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)
    assert not any(parameter.requires_grad for parameter in objective.target_critic.parameters())


def test_choices_that_do_not_exist_are_never_taken_and_a_threshold_of_0_admits_all_others():
    logits = torch.tensor([[[0.0, 1.0, -torch.inf], [-30.0, 5.0, 5.0]]])
    assert admissible(logits, 0.0).tolist() == [[[True, True, False], [True, True, True]]]
    assert admissible(logits, 0.5).tolist() == [[[False, True, False], [False, True, True]]]
    chosen = fas_agent(threshold=0.0).objective.decide(torch.randn(500, OBSERVATION), None, sample=False)
    assert (chosen < torch.tensor(NVEC)).all()
    assert {int(c) for c in chosen[:, 2]} - {0, 1}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_resumed_run_has_the_same_bits_and_a_saved_one_acts_alike(toy, tmp_path, variant):
    data = DeviceTransitions(toy, CPU)
    straight = fas_agent(variant=variant)
    straight.train(data, 53)
    losses = straight.train(data, 20)
    first = fas_agent(variant=variant)
    first.train(data, 53)
    state = first.state()
    second = fas_agent(variant=variant)
    second.load_state(*state)
    assert second.train(data, 20) == losses
    tensors = second.state()[0]
    assert_same_bits(tensors, straight.state()[0])
    assert fas_agent(1, variant=variant).train(data, 5) != fas_agent(variant=variant).train(data, 5)
    (group,) = second.objective.optimizers["critic_and_clone"].optimizer.param_groups
    assert group["lr"] == pytest.approx(1e-3 * (0.99995**72 if variant == "brave" else 1.0))

    save_file(tensors, tmp_path / "learner.safetensors")
    save_agent_spec(second.spec, tmp_path)
    observation = torch.randn(50, OBSERVATION)
    chosen = [o.decide(observation, None, sample=False) for o in (load_objective(tmp_path), second.objective)]
    torch.testing.assert_close(*chosen)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"variant": "tan"}, "variant of FAS"),
        ({"threshold": 1.0}, "threshold=1.0"),
        ({"cloning": "max"}, "max"),
        ({"hidden_layers": 0}, "hidden_layers=0"),
        ({"rate_decay": 1.5}, "rate_decay=1.5"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        FASSettings(**settings)


def bandit(count: int = 1500) -> SimpleNamespace:
    """Two states, episodes of one step. Sub-actions 0 and 1 pay where they are equal in state 0, different in state 1,
    and (2, 1), which would pay most, is not in the data."""
    generator = np.random.default_rng(0)
    state = generator.integers(2, size=count)
    action = np.stack([generator.integers(3, size=count), generator.integers(2, size=count)], 1)
    action[(action == (2, 1)).all(1)] = (2, 0)
    observations = np.zeros((2 * count, 2), np.float32)
    observations[np.arange(count) * 2, state] = 1.0
    rows = np.arange(count, dtype=np.int32) * 2
    actions, rewards, terminated = np.zeros((2 * count, 2), np.int16), np.zeros(2 * count, np.float32), rows * 0 == 0
    actions[rows] = action
    rewards[rows] = np.where(action[:, 0] == 2, -1.0, ((action[:, 0] == action[:, 1]) != (state == 1)) * 4.0 - 2.0)
    return SimpleNamespace(
        observations=observations,
        actions=actions,
        rewards=rewards,
        terminated=np.repeat(terminated, 2),
        transitions=rows,
        meta=SimpleNamespace(digest="bandit"),
    )


def test_brave_learns_joint_actions_that_an_additive_q_cannot_tell_apart():
    """Fails if branch values led to the wrong branch, or were not those of the best joint action below."""
    data = DeviceTransitions(bandit(), CPU)
    losses = {}
    for method, settings in (
        ("brave", BraVESettings(critic_width=32, learning_rate=3e-3, hidden_layers=2, mask_terminal=True)),
        ("fas", FASSettings(critic_width=32, learning_rate=3e-3, threshold=0.0)),
    ):
        agent = OfflineAgent(AgentSpec(method, 2, (3, 2), get_preset("tiny"), settings, 64))
        agent.train(data, 230)
        losses[method] = agent.train(data, 20)
        if method == "brave":
            network, tree = agent.objective.network, agent.objective.tree
            searched = agent.objective.decide(torch.eye(2), None, sample=False).tolist()
            with torch.no_grad():
                walked = tree.decode(greedy(network, tree, torch.eye(2))).tolist()
                out = network(torch.eye(2), torch.zeros(2, 3))
            for (a0, b0), (a1, b1) in (searched, walked):
                assert a0 == b0 < 2
                assert a1 != b1
                assert a1 < 2
            # the root's best branch is worth what the best joint action is
            torch.testing.assert_close(out.amax(1), torch.tensor([2.0, 2.0]), rtol=0, atol=0.5)
    assert losses["brave"]["td_loss"] < 0.5
    assert losses["fas"]["critic_loss"] > 0.7  # errors of 2 in two thirds of the data
