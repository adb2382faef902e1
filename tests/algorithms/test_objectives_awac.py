"""AWAC: each term against plain NumPy, and the whole update against plain autograd, step by step, in float64."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from spin_rl.algorithms.objectives import AWAC, AWACSettings
from spin_rl.algorithms.objectives.awac import actor_loss, value_loss
from spin_rl.algorithms.policies.base import sample_actions
from spin_rl.algorithms.policies.factored import FactoredPolicy
from tests.algorithms.plain_networks import (
    POLICIES,
    PlainNetworks,
    assert_all_weights_agree,
    autoregressive,
    chosen_sum,
    factored,
    move_target,
    step,
)
from tests.algorithms.toy_agent import NVEC, OBSERVATION, random_batch

SETTINGS = AWACSettings(
    learning_rate=0.01, gamma=0.9, target_rate=0.1, temperature=0.4, weight_cap=20.0, value_samples=3, critic_width=8
)


def make(build) -> AWAC:
    """Agents whose advantages lie on both sides of the cap."""
    torch.manual_seed(0)
    awac = AWAC(build(), OBSERVATION, NVEC, SETTINGS).double()
    for critic in (awac.critic, awac.target_critic):
        critic.layers[-1].weight.data.mul_(10.0)
    for value in (awac.value, awac.target_value):
        value.net[-1].bias.data.fill_(-3.0)
    awac.make_optimizers()
    return awac


def test_the_actor_loss_weighs_by_the_capped_advantage():
    log_prob, advantage = np.array([-1.0, -2.0, -0.5]), np.array([0.3, -0.2, 9.0])
    weight = np.minimum(np.exp(advantage / 0.3), 100.0)
    assert weight[2] == 100.0
    loss, info = actor_loss(torch.tensor(log_prob), torch.tensor(advantage), 0.3, 100.0)
    assert float(loss) == pytest.approx(-np.mean(weight * log_prob))
    assert float(info["weight"]) == pytest.approx(weight.mean())


def test_the_value_loss_is_the_squared_error():
    expected_q, v = np.array([1.0, -2.0, 0.5]), np.array([0.5, 1.0, 0.5])
    loss, info = value_loss(torch.tensor(expected_q), torch.tensor(v))
    assert float(loss) == pytest.approx(np.mean((expected_q - v) ** 2))
    assert float(info["value"]) == pytest.approx(v.mean())


def test_the_expected_value_of_a_factorised_policy_is_exact():
    """The sum over every joint action of its probability and its value."""
    awac = make(factored)
    observation = random_batch(5, torch.float64).observation
    with torch.no_grad():
        assert awac.draw_values(observation, 7) is None
        found = awac.policy.expected_value(awac.critic, observation, observation, None)
        expected = torch.zeros(2, 5).double()
        for joint in product(*map(range, NVEC)):
            action = torch.tensor(joint).expand(5, -1)
            probability = awac.policy.log_probs(observation, action).sum(-1).exp()
            expected += probability * awac.critic.joint_value(observation, action)
    torch.testing.assert_close(found, expected)


def test_the_expected_value_of_an_autoregressive_policy_is_a_mean_of_its_samples():
    awac = make(autoregressive)
    observation = random_batch(5, torch.float64).observation
    with torch.no_grad():
        torch.manual_seed(3)
        uniforms = awac.draw_values(observation, 7)
        found = awac.policy.expected_value(awac.critic, observation, observation, uniforms)
        torch.manual_seed(3)
        drawn = torch.rand((5, 7, len(NVEC)), dtype=torch.float64)
        actions = sample_actions(awac.policy, observation, drawn)
        assert actions.shape == (5, 7, len(NVEC))
        assert len(actions.flatten(0, 1).unique(dim=0)) > 7
        expected = sum(awac.critic.joint_value(observation, actions[:, k]) for k in range(7)) / 7
    torch.testing.assert_close(found, expected)


class Reference:
    """AWAC as one would write it down: separate optimisers and steps, loops over members."""

    def __init__(self, awac: AWAC) -> None:
        self.networks = PlainNetworks(awac)
        rate = SETTINGS.learning_rate
        self.steps = {name: torch.optim.Adam(self.networks.of(name), rate) for name in ("critic", "policy", "value")}

    def update(self, batch) -> float:
        s, a, r, terminated, next_s = batch[:5]
        networks = self.networks
        with torch.no_grad():
            aim = r + SETTINGS.gamma * (1 - terminated) * networks.value("target_value", next_s)
        error = sum(((chosen_sum(member, a) - aim) ** 2).mean() for member in networks.critics("critic", s))
        step(self.steps["critic"], error)

        with torch.no_grad():
            lowest = torch.minimum(*(chosen_sum(member, a) for member in networks.critics("critic", s)))
            weight = ((lowest - networks.value("value", s)) / SETTINGS.temperature).exp().clamp(max=SETTINGS.weight_cap)
        step(self.steps["policy"], -(weight * networks.log_prob(s, a)).mean())

        with torch.no_grad():
            aim = torch.minimum(*(self.expected(member, s) for member in self.members_with_samples(s)))
        step(self.steps["value"], ((networks.value("value", s) - aim) ** 2).mean())
        move_target(networks, "target_critic", "critic", SETTINGS.target_rate)
        move_target(networks, "target_value", "value", SETTINGS.target_rate)
        return float((weight == SETTINGS.weight_cap).double().mean())

    def members_with_samples(self, s: Tensor):
        """Q of each target member, with the joint actions that stand for an autoregressive policy's expectation."""
        samples = None
        if "policy.lstm.weight_ih_l0" in self.networks.weights:
            uniforms = torch.rand((len(s), SETTINGS.value_samples, len(NVEC)), dtype=torch.float64)
            samples = [self.networks.sample(s, uniforms[:, k]) for k in range(SETTINGS.value_samples)]
        for member in self.networks.critics("target_critic", s):
            yield member, samples

    def expected(self, member_with_samples, s: Tensor) -> Tensor:
        member, samples = member_with_samples
        if samples:
            return sum(chosen_sum(member, sample) for sample in samples) / len(samples)
        logits = self.networks.logits(s)
        return sum((of.softmax(-1) * values).sum(-1) for of, values in zip(logits, member, strict=True))


@pytest.mark.parametrize("policy", POLICIES)
def test_ten_updates_are_those_of_plain_autograd_step_by_step(policy):
    awac = make(POLICIES[policy])
    before = {name: value.clone() for name, value in awac.state_dict().items()}
    reference = Reference(awac)
    capped = []
    for number in range(10):
        batch = random_batch(32, torch.float64)
        torch.manual_seed(number)
        awac.update(batch)
        torch.manual_seed(number)  # the same samples
        capped.append(reference.update(batch))
    assert 0 < np.mean(capped) < 1  # the cap was at work, and not alone
    assert_all_weights_agree(awac, reference.networks, before)


def test_the_policys_value_has_no_dropout_in_it():
    """The value is regressed on what the policy is when it acts; training of the policy itself has dropout."""
    policy = FactoredPolicy(OBSERVATION, NVEC, width=8, dropout=0.5)
    awac = make(lambda: policy).train()
    batch = random_batch(8, torch.float64)
    modes = []
    original = policy.logits
    policy.logits = lambda features: (modes.append(policy.training), original(features))[1]
    awac.update(batch)
    assert modes == [True, False]
    assert policy.training
