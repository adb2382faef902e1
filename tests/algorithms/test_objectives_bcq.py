"""BCQ: each term against plain NumPy, and the whole update against plain autograd, step by step, in float64."""

import numpy as np
import pytest
import torch
from torch import Tensor

from spin_rl.algorithms.evaluation.batch_policy import ActingPolicy
from spin_rl.algorithms.objectives import BCQ, BCQSettings
from spin_rl.algorithms.objectives.bcq import actor_loss
from spin_rl.algorithms.policies.valuation import best_candidate, best_choices
from tests.algorithms.plain_networks import (
    POLICIES,
    PlainNetworks,
    assert_all_weights_agree,
    autoregressive,
    chosen_sum,
    move_target,
    step,
)
from tests.algorithms.toy_agent import NVEC, OBSERVATION, random_batch

SETTINGS = BCQSettings(learning_rate=0.01, gamma=0.9, target_rate=0.1, threshold=0.6, candidates=4, critic_width=8)


def make(build) -> BCQ:
    torch.manual_seed(0)
    bcq = BCQ(build(), OBSERVATION, NVEC, SETTINGS).double()
    for name, parameter in bcq.policy.named_parameters():
        if name.startswith("heads") and parameter.requires_grad:
            parameter.data.mul_(3.0)  # some choices fall below the threshold, some do not
    bcq.make_optimizers()
    return bcq


def test_the_actor_loss_is_that_of_behaviour_cloning():
    loss, info = actor_loss(torch.tensor([-1.0, -2.0, -0.75]))
    assert float(loss) == pytest.approx(1.25)
    assert float(info["log_prob"]) == pytest.approx(-1.25)


def test_the_best_choices_are_the_best_admissible_of_each_sub_action():
    random = np.random.default_rng(0)
    values, logits = random.normal(size=(2, 6, 3, 4)), 2 * random.normal(size=(6, 3, 4))
    values[:, :, 1, 2:], logits[:, 1, 2:] = 50.0, -np.inf  # choices that do not exist
    totals, actions, excluded = np.zeros((2, 6)), np.zeros((2, 6, 3)), 0
    for member, b, i in np.ndindex(2, 6, 3):
        probability = np.exp(logits[b, i]) / np.exp(logits[b, i]).sum()
        admissible = [c for c in range(4) if probability[c] >= 0.3 * probability.max()]
        excluded += values[member, b, i].argmax() not in admissible
        best = max(admissible, key=lambda c: values[member, b, i, c])
        totals[member, b] += values[member, b, i, best]
        actions[member, b, i] = best
    assert excluded  # the constraint is at work
    best = best_choices(torch.tensor(values), torch.tensor(logits), 0.3)
    np.testing.assert_allclose(best.value, totals)
    np.testing.assert_array_equal(best.action, actions)


def test_a_choice_at_the_threshold_is_admissible():
    values = torch.tensor([[[[0.0, 1.0, 2.0, 3.0]]]])
    logits = torch.tensor([[[0.5, 0.5, 0.4999, -float("inf")]]])
    assert best_choices(values, logits, 1.0).action.item() == 1


def test_the_best_candidate_is_the_best_joint_action_that_was_sampled():
    random = np.random.default_rng(0)
    values, candidates = random.normal(size=(2, 6, 3, 4)), random.integers(0, 4, (6, 5, 3))
    best = best_candidate(torch.tensor(values), torch.tensor(candidates))
    for member, b in np.ndindex(2, 6):
        totals = [sum(values[member, b, i, a] for i, a in enumerate(joint)) for joint in candidates[b]]
        assert float(best.value[member, b]) == pytest.approx(max(totals))
        np.testing.assert_array_equal(best.action[member, b], candidates[b, np.argmax(totals)])


class Reference:
    """BCQ as one would write it down: separate optimisers and steps, loops over members and sub-actions."""

    def __init__(self, bcq: BCQ) -> None:
        self.networks = PlainNetworks(bcq)
        self.steps = {
            name: torch.optim.Adam(self.networks.of(name), SETTINGS.learning_rate) for name in ("critic", "policy")
        }

    def update(self, batch) -> float:
        s, a, r, terminated, next_s = batch[:5]
        networks = self.networks
        step(self.steps["policy"], -networks.log_prob(s, a).mean())

        with torch.no_grad():
            totals, excluded = self.best(next_s)
            aim = r + SETTINGS.gamma * (1 - terminated) * torch.minimum(*totals)
        error = sum(((chosen_sum(member, a) - aim) ** 2).mean() for member in networks.critics("critic", s))
        step(self.steps["critic"], error)
        move_target(networks, "target_critic", "critic", SETTINGS.target_rate)
        return excluded

    def best(self, s: Tensor) -> tuple[list[Tensor], float]:
        """Value of the best admissible joint action by each target member, and the share of choices excluded."""
        members = list(self.networks.critics("target_critic", s))
        if "policy.lstm.weight_ih_l0" in self.networks.weights:
            uniforms = torch.rand((len(s), SETTINGS.candidates, len(NVEC)), dtype=torch.float64)
            samples = [self.networks.sample(s, uniforms[:, k]) for k in range(SETTINGS.candidates)]
            return [torch.stack([chosen_sum(member, x) for x in samples]).amax(0) for member in members], 0.5
        totals, excluded = [torch.zeros(len(s)).double() for _ in members], []
        for i, logits in enumerate(self.networks.logits(s)):
            probability = logits.softmax(-1)
            admissible = probability >= SETTINGS.threshold * probability.amax(-1, keepdim=True)
            excluded.append(float((~admissible).double().mean()))
            for total, member in zip(totals, members, strict=True):
                total += member[i].masked_fill(~admissible, -torch.inf).amax(-1)
        return totals, float(np.mean(excluded))


@pytest.mark.parametrize("policy", POLICIES)
def test_ten_updates_are_those_of_plain_autograd_step_by_step(policy):
    bcq = make(POLICIES[policy])
    before = {name: value.clone() for name, value in bcq.state_dict().items()}
    reference = Reference(bcq)
    excluded = []
    for number in range(10):
        batch = random_batch(32, torch.float64)
        torch.manual_seed(number)
        bcq.update(batch)
        torch.manual_seed(number)  # the same samples
        excluded.append(reference.update(batch))
    assert 0.1 < np.mean(excluded) < 0.7
    assert_all_weights_agree(bcq, reference.networks, before)


@pytest.mark.parametrize("policy", [name for name in POLICIES if name != "autoregressive"])
def test_it_acts_by_the_member_that_values_its_best_least(policy):
    bcq = make(POLICIES[policy])
    bcq.critic.layers[-1].weight.data.mul_(10.0)  # members that differ
    observation = random_batch(40, torch.float64).observation
    with torch.no_grad():
        action = bcq.decide(observation, None, sample=False)
        probabilities = bcq.policy.probabilities(observation)
        values = bcq.critic(observation)
    members = set()
    for b in range(40):
        best = []
        for member in range(2):
            choices = []
            for i, n in enumerate(NVEC):
                limit = SETTINGS.threshold * float(probabilities[b, i].max())
                admissible = [c for c in range(n) if float(probabilities[b, i, c]) >= limit]
                choices.append(max(admissible, key=lambda c, i=i, member=member: float(values[member, b, i, c])))
            best.append((sum(float(values[member, b, i, c]) for i, c in enumerate(choices)), choices))
        members.add(best.index(min(best)))
        assert action[b].tolist() == min(best)[1]
    assert members == {0, 1}


def test_an_autoregressive_policy_acts_by_the_best_of_its_samples():
    bcq = make(autoregressive).float()
    acting = ActingPolicy(bcq, torch.device("cpu"), sample=False)
    assert acting.draws == SETTINGS.candidates * len(NVEC)
    observation = random_batch(20).observation
    uniforms = np.random.default_rng(0).random((20, acting.draws))
    action = acting.act(observation.numpy(), uniforms)
    blocks = torch.from_numpy(uniforms).view(20, SETTINGS.candidates, len(NVEC))
    with torch.no_grad():
        samples = torch.stack([bcq.policy.act(observation, blocks[:, k]) for k in range(SETTINGS.candidates)])
        totals = torch.stack([bcq.critic.joint_value(observation, sample) for sample in samples])  # (K, E, B)
    best = totals.max(0)
    member = best.values.argmin(0)
    for b in range(20):
        assert action[b].tolist() == samples[best.indices[member[b], b], b].tolist()
    assert (acting.act(observation.numpy(), 0.999 * uniforms[:, ::-1]) != action).any()


def test_samples_are_those_of_the_cloned_behaviour():
    bcq = make(POLICIES["factored"]).float()
    observation, uniforms = random_batch(20).observation, torch.rand(20, len(NVEC), dtype=torch.float64)
    acting = ActingPolicy(bcq, torch.device("cpu"), sample=True)
    assert acting.draws == len(NVEC)
    expected = bcq.policy.act(observation, uniforms)
    np.testing.assert_array_equal(acting.act(observation.numpy(), uniforms.numpy()), expected)
