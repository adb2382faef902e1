"""IQL: each term against plain NumPy, and the whole update against plain autograd, step by step, in float64."""

import numpy as np
import pytest
import torch
from torch import Tensor

from spin_rl.algorithms.objectives import IQL, IQLSettings
from spin_rl.algorithms.objectives.iql import actor_loss, value_loss
from spin_rl.algorithms.objectives.losses import critic_loss
from spin_rl.algorithms.policies.factored import FactoredPolicy
from tests.algorithms.toy_agent import NVEC, OBSERVATION, random_batch


def test_the_value_loss_is_the_expectile_of_the_advantage():
    target_q, v = np.array([1.0, -2.0, 0.5, 3.0]), np.array([0.5, 1.0, 0.5, -1.0])
    advantage = target_q - v
    expected = np.mean([abs(0.8 - (a < 0)) * a**2 for a in advantage])
    loss, info, returned = value_loss(torch.tensor(target_q), torch.tensor(v, requires_grad=True), 0.8)
    assert loss.item() == pytest.approx(expected)
    np.testing.assert_allclose(returned, advantage)
    assert not returned.requires_grad
    assert float(info["value"]) == pytest.approx(v.mean())
    upper, lower = (value_loss(torch.tensor([sign]), torch.tensor([0.0]), 0.8)[0] for sign in (1.0, -1.0))
    assert float(upper / lower) == pytest.approx(4.0)


def test_the_critic_loss_bootstraps_unless_terminated():
    q = np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 4.0]])
    reward, terminated, next_v = np.array([0.5, 1.0, -1.0]), np.array([0.0, 1.0, 0.0]), np.array([2.0, 50.0, -3.0])
    target = np.array([0.5 + 0.9 * 2.0, 1.0, -1.0 - 0.9 * 3.0])
    expected = sum(np.mean((member - target) ** 2) for member in q)
    loss, info = critic_loss(*(torch.tensor(array) for array in (q, reward, terminated, next_v)), 0.9)
    assert float(loss) == pytest.approx(expected)
    assert float(info["q"]) == pytest.approx(q.mean())


def test_the_actor_loss_weighs_by_the_capped_advantage():
    log_prob, advantage = np.array([-1.0, -2.0, -0.5]), np.array([0.3, -0.2, 9.0])
    weight = np.minimum(np.exp(3.0 * advantage), 100.0)
    assert weight[2] == 100.0
    loss, info = actor_loss(torch.tensor(log_prob), torch.tensor(advantage), 3.0, 100.0)
    assert float(loss) == pytest.approx(-np.mean(weight * log_prob))
    assert float(info["weight"]) == pytest.approx(weight.mean())
    huge, _ = actor_loss(torch.tensor([-1.0]), torch.tensor([1e6]), 3.0, 100.0)
    assert float(huge) == 100.0


SETTINGS = IQLSettings(learning_rate=0.01, gamma=0.9, target_rate=0.1, expectile=0.7, beta=2.0, critic_width=8)


class Reference:
    """IQL with the factored policy as one would write it down: separate networks, optimisers and steps."""

    def __init__(self, iql: IQL) -> None:
        def leaf(tensor: Tensor) -> Tensor:
            return tensor.detach().clone().requires_grad_()

        self.value = [(leaf(layer.weight), leaf(layer.bias)) for layer in iql.value.net if hasattr(layer, "weight")]
        self.critics = [
            [(leaf(layer.weight[member].T), leaf(layer.bias[member, 0])) for layer in iql.critic.layers]
            for member in range(2)
        ]
        self.targets = [[(w.detach().clone(), b.detach().clone()) for w, b in member] for member in self.critics]
        body = [layer for layer in iql.policy.body if hasattr(layer, "weight")]
        self.policy = [(leaf(layer.weight), leaf(layer.bias)) for layer in (*body, iql.policy.heads)]
        rate = SETTINGS.learning_rate
        self.value_step = torch.optim.Adam(self.parameters(self.value), rate)
        self.critic_steps = [torch.optim.Adam(self.parameters(member), rate) for member in self.critics]
        self.actor_step = torch.optim.Adam(self.parameters(self.policy), rate)

    @staticmethod
    def parameters(layers) -> list[Tensor]:
        return [tensor for layer in layers for tensor in layer]

    @staticmethod
    def forward(layers, x: Tensor) -> Tensor:
        for weight, bias in layers[:-1]:
            x = (x @ weight.T + bias).relu()
        return x @ layers[-1][0].T + layers[-1][1]

    def joint_value(self, layers, observation: Tensor, action: Tensor) -> Tensor:
        values = self.forward(layers, observation)
        chosen = [values[:, i * max(NVEC) : i * max(NVEC) + n] for i, n in enumerate(NVEC)]
        return sum(column.gather(1, action[:, i, None])[:, 0] for i, column in enumerate(chosen))

    def update(self, batch) -> float:
        s, a, r, terminated, next_s = batch[:5]
        with torch.no_grad():
            lowest = torch.minimum(*(self.joint_value(target, s, a) for target in self.targets))
        v = self.forward(self.value, s)[:, 0]
        advantage = lowest - v
        weight = (SETTINGS.expectile - (advantage < 0).double()).abs().detach()
        self.step(self.value_step, (weight * advantage**2).mean())
        with torch.no_grad():
            aim = r + SETTINGS.gamma * (1 - terminated) * self.forward(self.value, next_s)[:, 0]
        for member, step in zip(self.critics, self.critic_steps, strict=True):
            self.step(step, ((self.joint_value(member, s, a) - aim) ** 2).mean())
        logits = self.forward(self.policy, s)
        log_prob = sum(
            logits[:, i * max(NVEC) : i * max(NVEC) + n].log_softmax(-1).gather(1, a[:, i, None])[:, 0]
            for i, n in enumerate(NVEC)
        )
        advantage = advantage.detach()
        weight = (SETTINGS.beta * advantage).exp().clamp(max=SETTINGS.weight_cap)
        self.step(self.actor_step, -(weight * log_prob).mean())
        for target, member in zip(self.targets, self.critics, strict=True):
            for (weight_t, bias_t), (weight_o, bias_o) in zip(target, member, strict=True):
                weight_t.add_(SETTINGS.target_rate * (weight_o.detach() - weight_t))
                bias_t.add_(SETTINGS.target_rate * (bias_o.detach() - bias_t))
        return float((weight == SETTINGS.weight_cap).double().mean())

    @staticmethod
    def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_ten_updates_are_those_of_plain_autograd_step_by_step():
    torch.manual_seed(0)
    iql = IQL(FactoredPolicy(OBSERVATION, NVEC, width=8, dropout=0.0), OBSERVATION, NVEC, SETTINGS).double()
    for critic in (iql.critic, iql.target_critic):
        critic.layers[-1].weight.data.mul_(100.0)  # advantages on both sides of the cap
    iql.value.net[-1].bias.data.fill_(-30.0)
    iql.make_optimizers()
    before = {name: value.clone() for name, value in iql.state_dict().items()}
    reference = Reference(iql)
    capped = []
    for _ in range(10):
        batch = random_batch(32, torch.float64)
        iql.update(batch)
        capped.append(reference.update(batch))
    assert 0 < np.mean(capped) < 1  # the cap was at work, and not alone

    pairs = []
    layers = [layer for layer in iql.value.net if hasattr(layer, "weight")]
    pairs += [(layer.weight, w) for layer, (w, _) in zip(layers, reference.value, strict=True)]
    pairs += [(layer.bias, b) for layer, (_, b) in zip(layers, reference.value, strict=True)]
    for ours, theirs in ((iql.critic, reference.critics), (iql.target_critic, reference.targets)):
        for member in range(2):
            for layer, (weight, bias) in zip(ours.layers, theirs[member], strict=True):
                pairs += [(layer.weight[member].T, weight), (layer.bias[member, 0], bias)]
    layers = [*(layer for layer in iql.policy.body if hasattr(layer, "weight")), iql.policy.heads]
    for layer, (weight, bias) in zip(layers, reference.policy, strict=True):
        pairs += [(layer.weight, weight), (layer.bias, bias)]
    assert sum(ours.numel() for ours, _ in pairs) == sum(value.numel() for name, value in iql.state_dict().items())
    for ours, theirs in pairs:
        torch.testing.assert_close(ours.detach(), theirs.detach(), rtol=0, atol=1e-8)
    for name, value in iql.state_dict().items():
        assert not torch.equal(value, before[name]), name


def test_the_minimum_is_over_members_after_the_sum_over_sub_actions():
    """Members that are each the lower one for another sub-action: the minimum of sums is not the sum of minima."""
    iql = IQL(FactoredPolicy(OBSERVATION, NVEC, width=8), OBSERVATION, NVEC, SETTINGS)
    iql.make_optimizers()
    for parameter in (*iql.target_critic.parameters(), *iql.value.parameters()):
        parameter.data.zero_()
    bias = iql.target_critic.layers[-1].bias.data.view(2, len(NVEC), max(NVEC))
    bias[0] = torch.tensor([10.0, -1.0, 0.0])[:, None]
    bias[1] = torch.tensor([-3.0, 5.0, 1.0])[:, None]
    info = iql.update(random_batch(4))
    assert float(info["advantage"]) == 3.0  # min(9, 3); the sum of minima would be -4
