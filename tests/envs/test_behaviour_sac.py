"""Soft actor-critic with a factored policy: its targets, its samples, its settings."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from spin_rl.envs.behaviour.collectors import InProcessCollector, weights_of
from spin_rl.envs.behaviour.network import DecoupledQ, SoftmaxPolicy
from spin_rl.envs.behaviour.sac import FactoredSAC, levels_of
from spin_rl.envs.behaviour.settings import BehaviourSettings
from spin_rl.envs.behaviour.training import BehaviourTraining
from spin_rl.errors import UserError
from tests.toy import toy_task

NVEC = (3, 2, 4)
SAC = BehaviourSettings(
    algorithm="sac", envs=4, ahead=7, width=16, batch_size=8, steps_per_update=1, warmup_steps=100, capacity=400,
    evaluation_rounds=1, evaluation_episodes=3, bfloat16=False,
)  # fmt: skip


def learner(**more) -> FactoredSAC:
    torch.manual_seed(0)
    made = FactoredSAC(5, NVEC, replace(SAC, **more), torch.device("cpu"))
    made.begin_round(SAC.learning_rate, seed=1)
    return made


def batch(rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    action = (torch.rand(rows, 3, generator=generator) * torch.tensor(NVEC)).long()
    observations = torch.randn(2, rows, 5, generator=generator)
    return observations[0], action, observations[1]


def test_choices_are_evenly_spaced_between_the_first_and_the_last():
    levels = levels_of((3, 1, 2))
    torch.testing.assert_close(levels, torch.tensor([[-1.0, 0, 1], [0, 0, 0], [-1, 1, 0]]))


def test_the_critic_learns_from_the_smallest_value_of_the_sampled_action():
    """The policy can sample only one action, so its entropy is zero."""
    made = learner(critics=2, target_rate=1.0)
    observation, action, then = batch(64)
    then = 100 * then
    returns, discount = torch.randn(64), torch.rand(64)
    torch.nn.init.zeros_(made.network.body[-1].weight)
    made.network.body[-1].bias.data = torch.tensor([0.0, 0, 999, 0, 0, 999, 0, 0, 0, 999, 0, 0])
    made.network.track(100 * torch.randn(50, 5), 1)
    for member in made.target.members:
        torch.nn.init.zeros_(member[-1].bias)
    levels = torch.tensor([1.0, 1.0, -1 / 3]).expand(64, -1)
    with torch.no_grad():
        one, other = made.target(made.network.scaled(then), levels)
        assert (one < other).any()
        assert (other < one).any()
        target = returns + discount * torch.minimum(one, other)
        taken = torch.stack([torch.linspace(-1, 1, n)[action[:, i]] for i, n in enumerate(NVEC)], -1)
        expected = (made.critic(made.network.scaled(observation), taken) - target).square().mean()
    torch.testing.assert_close(made.update(observation, action, returns, discount, then), expected)
    for moved, network in zip(made.target.parameters(), made.critic.parameters(), strict=True):
        torch.testing.assert_close(moved, network)


def test_the_entropy_of_the_policy_is_part_of_the_target():
    made = learner(learning_rate=0.0)
    torch.nn.init.zeros_(made.network.body[-1].weight)
    torch.nn.init.zeros_(made.network.body[-1].bias)
    torch.nn.init.zeros_(made.target.members[0][-1].weight)
    made.critic.load_state_dict(made.target.state_dict())
    observation, action, then = batch(64)
    bias = made.critic.members[0][-1].bias.item()
    expected = 0.5 * (bias + 0.01 * np.log(np.prod(NVEC))) - bias
    loss = made.update(observation, action, torch.zeros(64), torch.full((64,), 0.5), then)
    assert float(loss) == pytest.approx(expected**2, rel=1e-4)


def test_the_best_joint_action_is_learnt_even_if_one_of_its_sub_actions_is_worse_on_average():
    """With random other sub-actions, the last choice of the first sub-action is worse than the first one."""
    made = learner(width=64, learning_rate=3e-3)
    for update in range(400):
        observation, action, then = batch(128, seed=update)
        best = (action == torch.tensor([2, 1, 2])).all(-1)
        returns = best.float() * 3 - 0.5 * (action[:, 0] == 2)
        made.update(observation, action, returns, torch.zeros(128), then)
    average = 3 / 8 - 0.5  # of that choice, with random other sub-actions
    assert average < 0
    assert made.network(torch.randn(50, 5)).argmax(-1).unique(dim=0).tolist() == [[2, 1, 2]]


def test_the_temperature_moves_the_entropy_towards_its_target():
    temperatures = []
    for scale in (0.0, 100.0):  # a uniform policy, and a nearly deterministic one
        made = learner()
        made.network.body[-1].weight.data.mul_(scale)
        observation, action, then = batch(64)
        made.update(observation, action, torch.zeros(64), torch.zeros(64), then)
        temperatures.append(made.log_temperature.exp().item())
    assert temperatures[0] < 0.01 < temperatures[1]
    assert made.measures()["entropy"] < 0.36


def test_an_update_changes_only_its_own_networks():
    made = learner(target_rate=0.0)
    observation, action, then = batch(64)
    moved = []
    for _ in range(4):
        before = [next(iter(module.parameters())).clone() for module in (made.critic, made.target, made.network)]
        made.update(observation, action, torch.ones(64), torch.zeros(64), then)
        after = [next(iter(module.parameters())) for module in (made.critic, made.target, made.network)]
        moved.append([not torch.equal(*pair) for pair in zip(before, after, strict=True)])
    assert moved == [[True, False, True], [True, False, False]] * 2
    assert all(parameter.isfinite().all() for parameter in made.network.parameters())


def test_existing_choices_are_sampled_with_the_probabilities_of_their_logits():
    network = DecoupledQ(5, NVEC, 8)
    torch.nn.init.zeros_(network.body[-1].weight)
    shares = torch.tensor([[0.1, 0.2, 0.7, 0], [0.6, 0.4, 0, 0], [0.25, 0.25, 0.4, 0.1]])
    network.body[-1].bias.data = shares.clamp_min(1e-9).log().flatten()
    policy = SoftmaxPolicy(network)
    uniforms = np.random.default_rng(0).random((40_000, policy.draws))
    uniforms[0] = 1 - 1e-16
    actions = policy.act(np.zeros((40_000, 5), np.float32), uniforms)
    assert (actions < np.array(NVEC)).all()
    drawn = np.stack([(actions == choice).mean(0) for choice in range(4)], -1)
    np.testing.assert_allclose(drawn, shares, atol=0.01)


def test_a_training_samples_its_actions_and_its_curve_shows_the_entropy(tmp_path):
    task = toy_task(steps=20, terminates=False)
    torch.set_num_threads(1)
    trainer = BehaviourTraining(task, SAC, tmp_path, collector=InProcessCollector(task, SAC.collection))
    *_, point = trainer.train(240)
    assert point.epsilon is None
    assert 0.5 < point.entropy <= 1
    assert 0 < point.temperature < 0.01
    collector = InProcessCollector(task, SAC.collection)
    collector.begin(0)()
    actions = collector.advance(weights_of(trainer.learner.network), [0.0] * 20)().actions
    assert len(np.unique(actions.reshape(-1, 3), axis=0)) > 10


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"algorithm": "ppo"}, "--algorithm ppo is none of decqn, sac"),
        ({"entropy": 1.0}, "entropy=1 is no share between 0 and 1"),
    ],
)
def test_invalid_settings_are_refused(more, said):
    with pytest.raises(UserError, match=said):
        replace(SAC, **more)
