"""Value decomposition: each term against plain NumPy, and whole updates against plain autograd, in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from spin_rl.algorithms.networks.critics import chosen
from spin_rl.algorithms.objectives import OBJECTIVES, Objective
from spin_rl.algorithms.objectives.decqn.base import td_loss
from spin_rl.algorithms.objectives.decqn.clone import clone_loss
from spin_rl.algorithms.objectives.decqn.cql import conservative_gap
from spin_rl.algorithms.objectives.decqn.iql import value_loss
from spin_rl.algorithms.objectives.decqn.one_step import expected_utilities, extraction_scores
from spin_rl.algorithms.policies.valuation import excluded_choices
from spin_rl.errors import UserError
from tests.algorithms.plain_networks import PlainNetworks, assert_all_weights_agree, move_target, step
from tests.algorithms.toy_agent import NVEC, OBSERVATION, random_batch

DECOMPOSED = ("decqn", "decqn-bcq", "decqn-cql", "decqn-iql", "decqn-onestep")
FAMILY = (*DECOMPOSED, "factorised-bc")
OWN = {
    "decqn-bcq": {"threshold": 0.7},
    "decqn-cql": {"cql_alpha": 0.6},
    "decqn-iql": {"expectile": 0.7, "extraction_temperature": 0.5},
    "decqn-onestep": {"extraction_temperature": 2.0},
}
MISSING = torch.arange(max(NVEC)) >= torch.tensor(NVEC)[:, None]


def random_utilities(random: np.random.Generator, *leading: int) -> np.ndarray:
    """Utilities whose missing choices look better than all others."""
    values = random.normal(size=(*leading, len(NVEC), max(NVEC)))
    values[..., MISSING.numpy()] = 50.0
    return values


def random_actions(random: np.random.Generator, count: int) -> np.ndarray:
    return np.stack([random.integers(0, n, count) for n in NVEC], 1)


def logits_of(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits and the probabilities that they mean."""
    logits = 2 * random.normal(size=(count, len(NVEC), max(NVEC)))
    logits[..., MISSING.numpy()] = -np.inf
    probabilities = np.exp(logits)
    return logits, probabilities / probabilities.sum(-1, keepdims=True)


def test_the_temporal_difference_loss_is_hubers_mean_over_members_too():
    q = np.array([[2.0, 2.0, 3.0], [0.0, -1.0, 4.0]])
    reward, terminated, next_v = np.array([0.5, 1.0, -1.0]), np.array([0.0, 1.0, 0.0]), np.array([2.0, 50.0, -3.0])
    errors = q - np.array([0.5 + 0.9 * 2.0, 1.0, -1.0 - 0.9 * 3.0])
    assert (abs(errors) < 1).any()
    assert (abs(errors) > 1).any()
    expected = np.mean([e**2 / 2 if abs(e) < 1 else abs(e) - 0.5 for e in errors.ravel()])
    inputs = [torch.tensor(array) for array in (q, reward, terminated, next_v)]
    loss, info = td_loss(*inputs, 0.9)
    assert float(loss) == pytest.approx(expected)
    assert float(info["q"]) == pytest.approx(q.mean())
    assert float(td_loss(*inputs, 0.9, torch.square)[0]) == pytest.approx(np.mean(errors**2))


def test_chosen_utilities_are_those_of_the_joint_action():
    random = np.random.default_rng(0)
    utilities, action = random_utilities(random, 2, 5), random_actions(random, 5)
    found = chosen(torch.tensor(utilities), torch.tensor(action))
    for e, b, i in np.ndindex(2, 5, len(NVEC)):
        assert found[e, b, i] == utilities[e, b, i, action[b, i]]


def test_the_conservative_gap_is_between_all_choices_and_the_datasets():
    random = np.random.default_rng(0)
    utilities, action = random_utilities(random, 5), random_actions(random, 5)
    gap = conservative_gap(torch.tensor(utilities), torch.tensor(action), MISSING)
    for b, i in np.ndindex(5, len(NVEC)):
        exists = utilities[b, i, : NVEC[i]]
        assert float(gap[b, i]) == pytest.approx(np.log(np.exp(exists).sum()) - exists[action[b, i]])


@pytest.mark.parametrize("expectile", [0.5, 0.7])
def test_the_value_loss_is_hubers_at_one_half_and_weighs_both_branches_elsewhere(expectile):
    q, v = np.array([1.0, -2.0, 0.5, 3.0]), np.array([0.5, 1.0, 0.9, -1.0])
    weights = [expectile if e > 0 else 1 - expectile for e in q - v]
    huber = [e**2 / 2 if abs(e) < 1 else abs(e) - 0.5 for e in q - v]
    loss, info = value_loss(torch.tensor(q), torch.tensor(v), expectile)
    assert float(loss) == pytest.approx(np.mean([2 * w * h for w, h in zip(weights, huber, strict=True)]))
    assert float(info["value"]) == pytest.approx(v.mean())
    published = [w * e**2 if abs(e) < 1 else abs(e) - w for w, e in zip(weights, q - v, strict=True)]
    assert (float(loss) == pytest.approx(np.mean(published))) == (expectile == 0.5)


def test_the_clones_loss_is_a_mean_over_sub_actions_and_its_metric_the_joint_actions():
    log_prob = np.array([[-1.0, -2.0, -0.5], [-0.25, -3.0, -1.0]])
    loss, info = clone_loss(torch.tensor(log_prob))
    assert float(loss) == pytest.approx(-log_prob.mean())
    assert float(info["log_prob"]) == pytest.approx(log_prob.sum(1).mean())


def test_choices_are_excluded_below_a_share_of_the_likeliest():
    logits, probabilities = logits_of(np.random.default_rng(0), 20)
    excluded = excluded_choices(torch.tensor(logits), 0.25)
    np.testing.assert_array_equal(excluded, probabilities / probabilities.max(-1, keepdims=True) < 0.25)
    at_threshold = torch.tensor([0.3, 0.3, 0.2999, -torch.inf])
    assert excluded_choices(at_threshold, 1.0).tolist() == [False, False, True, True]


def test_expectations_and_extraction_leave_missing_choices_out():
    random = np.random.default_rng(0)
    utilities, (logits, probabilities) = random_utilities(random, 6), logits_of(random, 6)
    expected = expected_utilities(torch.tensor(utilities), torch.tensor(logits))
    scores = extraction_scores(torch.tensor(utilities), torch.tensor(logits), 0.5)
    for b, i in np.ndindex(6, len(NVEC)):
        exist = slice(0, NVEC[i])
        mean = probabilities[b, i, exist] @ utilities[b, i, exist]
        assert float(expected[b, i]) == pytest.approx(mean)
        best = np.argmax(utilities[b, i, exist] / 0.5 + np.log(probabilities[b, i, exist]))
        assert int(scores[b, i].argmax()) == best


def settings_of(name: str, **changes):
    rates = {"learning_rate": 0.01, "gamma": 0.9, "target_rate": 0.1, "critic_width": 8}
    return OBJECTIVES[name].settings_class(**{**rates, **OWN.get(name, {}), **changes})


def make(name: str, **changes) -> Objective:
    """In float64, with a normalisation, utilities on both branches of the Huber loss, and a clone with opinions."""
    torch.manual_seed(0)
    made = OBJECTIVES[name](None, OBSERVATION, NVEC, settings_of(name, **changes)).double()
    made.mean.copy_(torch.tensor([0.5, -1.0, 0.0]))
    made.deviation.copy_(torch.tensor([2.0, 0.5, 1.0]))
    for network in ("utilities", "target_utilities"):
        if hasattr(made, network):
            getattr(made, network).layers[-1].weight.data.mul_(4.0)
    if hasattr(made, "clone"):
        made.clone.heads.weight.data.mul_(6.0)
    made.make_optimizers()
    return made


class Reference:
    """Each method as one would write it down: separate steps, loops over members and sub-actions."""

    def __init__(self, name: str, objective: Objective) -> None:
        self.name, self.settings, self.networks = name, objective.settings, PlainNetworks(objective)
        parts = [part for part in ("utilities", "clone", "value") if self.networks.of(f"{part}.")]
        self.steps = {part: torch.optim.Adam(self.networks.of(f"{part}."), 0.01) for part in parts}

    def normalised(self, s: Tensor) -> Tensor:
        return (s - self.networks.weights["mean"]) / self.networks.weights["deviation"]

    def logits(self, s: Tensor) -> list[Tensor]:
        x = self.networks.linear("clone.body.2", self.networks.linear("clone.body.0", s).relu()).relu()
        x = self.networks.linear("clone.heads", x)
        return [x[:, i * max(NVEC) : i * max(NVEC) + n] for i, n in enumerate(NVEC)]

    def mean_utilities(self, network: str, s: Tensor) -> list[Tensor]:
        first, second = self.networks.critics(network, s)
        return [(a + b) / 2 for a, b in zip(first, second, strict=True)]

    def joint(self, terms: list[Tensor]) -> Tensor:
        return sum(terms) / (len(NVEC) if getattr(self.settings, "decomposition", "") == "mean" else 1)

    def admissible(self, s: Tensor) -> list[Tensor]:
        probabilities = [logits.softmax(-1) for logits in self.logits(s)]
        return [p >= self.settings.threshold * p.amax(-1, keepdim=True) for p in probabilities]

    def update(self, batch) -> None:
        s, a, r, terminated, next_s = batch[:5]
        s, next_s = self.normalised(s), self.normalised(next_s)
        if "clone" in self.steps:
            log_probs = [
                logits.log_softmax(-1).gather(1, a[:, i, None])[:, 0] for i, logits in enumerate(self.logits(s))
            ]
            step(self.steps["clone"], -sum(log_probs).mean() / len(NVEC))
        if "utilities" not in self.steps:
            return
        if "value" in self.steps:
            q = self.joint(self.taken(self.mean_utilities("target_utilities", s), a)).detach()
            error = q - self.networks.value("value", s)
            weight = torch.where(error > 0, self.settings.expectile, 1 - self.settings.expectile)
            huber = functional.smooth_l1_loss(error, 0 * error, reduction="none")
            step(self.steps["value"], (2 * weight * huber).mean())
        target = (r + self.settings.gamma * (1 - terminated) * self.next_value(next_s)).detach()
        members = [self.joint(self.taken(member, a)) for member in self.networks.critics("utilities", s)]
        loss = sum(functional.smooth_l1_loss(member, target) for member in members) / 2
        if self.name == "decqn-cql":
            utilities = self.mean_utilities("utilities", s)
            gaps = [u.exp().sum(-1).log() - q for u, q in zip(utilities, self.taken(utilities, a), strict=True)]
            loss = loss + self.settings.cql_alpha * self.joint(gaps).mean()
        step(self.steps["utilities"], loss)
        move_target(self.networks, "target_utilities", "utilities", self.settings.target_rate)

    @staticmethod
    def taken(columns: list[Tensor], action: Tensor) -> list[Tensor]:
        return [column.gather(1, action[:, i, None])[:, 0] for i, column in enumerate(columns)]

    def next_value(self, s: Tensor) -> Tensor:
        if self.name == "decqn-iql":
            return self.networks.value("value", s)
        utilities = self.mean_utilities("target_utilities", s)
        if self.name == "decqn-onestep":
            probabilities = [logits.softmax(-1) for logits in self.logits(s)]
            return self.joint([(p * u).sum(-1) for p, u in zip(probabilities, utilities, strict=True)])
        if self.name == "decqn-bcq":
            pairs = zip(utilities, self.admissible(s), strict=True)
            utilities = [u.masked_fill(~admissible, -torch.inf) for u, admissible in pairs]
        return self.joint([u.amax(-1) for u in utilities])

    def act(self, s: Tensor) -> Tensor:
        s = self.normalised(s)
        log_probs = [logits.log_softmax(-1) for logits in self.logits(s)] if "clone" in self.steps else []
        if self.name == "factorised-bc":
            return torch.stack([each.argmax(-1) for each in log_probs], 1)
        utilities = self.mean_utilities("utilities", s)
        if self.name in ("decqn-iql", "decqn-onestep"):
            temperature = self.settings.extraction_temperature
            utilities = [u / temperature + each for u, each in zip(utilities, log_probs, strict=True)]
        if self.name == "decqn-bcq":
            pairs = zip(utilities, self.admissible(s), strict=True)
            utilities = [u.masked_fill(~admissible, -torch.inf) for u, admissible in pairs]
        return torch.stack([u.argmax(-1) for u in utilities], 1)


@pytest.mark.parametrize(
    ("name", "changes"),
    [*((name, {}) for name in FAMILY), *((name, {"decomposition": "sum"}) for name in DECOMPOSED)],
)
def test_ten_updates_and_the_actions_after_them_are_those_of_plain_autograd(name, changes):
    objective = make(name, **changes)
    before = {key: value.clone() for key, value in objective.state_dict().items()}
    reference = Reference(name, objective)
    for _ in range(10):
        batch = random_batch(32, torch.float64)
        objective.update(batch)
        reference.update(batch)
    assert_all_weights_agree(objective, reference.networks, before)  # and all of them moved

    observation = random_batch(200, torch.float64).observation
    with torch.no_grad():
        action = objective.decide(observation, None, sample=False)
        assert torch.equal(action, reference.act(observation))
        assert bool((action < torch.tensor(NVEC)).all())
        if name in ("decqn-bcq", "decqn-iql", "decqn-onestep"):  # the clone has its say
            utilities = reference.mean_utilities("utilities", reference.normalised(observation))
            assert (torch.stack([u.argmax(-1) for u in utilities], 1) != action).any()


@pytest.mark.parametrize("name", DECOMPOSED)
def test_missing_choices_decide_nothing(name):
    """The outputs of choices that do not exist are as large as can be, and nothing changes."""
    plain, lured = make(name), make(name)
    for network in (lured.utilities, lured.target_utilities):
        bias = network.layers[-1].bias.data.view(2, len(NVEC), max(NVEC))
        bias[:, MISSING] = 1e6
    batch, observation = random_batch(32, torch.float64), random_batch(50, torch.float64).observation
    assert float(plain.update(batch)["critic_loss"]) == pytest.approx(float(lured.update(batch)["critic_loss"]))
    actions = [each.decide(observation, None, sample=False) for each in (plain, lured)]
    assert torch.equal(*actions)


def test_targets_come_from_the_ensembles_mean_and_not_from_its_minimum():
    objective = make("decqn")
    for network in (objective.utilities, objective.target_utilities):
        for parameter in network.parameters():
            parameter.data.zero_()
    bias = objective.target_utilities.layers[-1].bias.data.view(2, len(NVEC), max(NVEC))
    bias[0], bias[1] = 1.0, 5.0
    batch = random_batch(4, torch.float64)
    batch = batch._replace(reward=torch.zeros(4).double(), terminated=torch.zeros(4).double())
    assert float(objective.update(batch)["critic_loss"]) == pytest.approx(0.9 * 3.0 - 0.5)  # of a minimum: 0.405


def test_only_the_clone_alone_has_a_distribution_to_sample_from():
    for name in DECOMPOSED:
        objective = make(name)
        observation = random_batch(20, torch.float64).observation
        assert objective.draws(sample=True) == objective.draws(sample=False) == 0
        assert torch.equal(*(objective.decide(observation, None, sample=sample) for sample in (True, False)))
    objective = make("factorised-bc")
    assert (objective.draws(sample=True), objective.draws(sample=False)) == (len(NVEC), 0)
    observation = random_batch(1, torch.float64).observation.expand(20_000, -1)
    with torch.no_grad():
        samples = objective.decide(observation, torch.rand(20_000, len(NVEC)).double(), sample=True)
        logits = Reference("factorised-bc", objective).logits(objective.normalised(observation[:1]))
    for i, n in enumerate(NVEC):
        shares = torch.bincount(samples[:, i], minlength=n) / 20_000
        torch.testing.assert_close(shares.double(), logits[i][0].softmax(-1), atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("decqn", {"decomposition": "product"}, "There is no decomposition 'product'.*sum.*mean"),
        ("decqn", {"regression": "cubed"}, "There is no regression 'cubed'.*squared.*huber"),
        ("decqn-bcq", {"threshold": 0.0}, r"threshold=0.0 must lie in \(0, 1\]"),
        ("decqn-cql", {"cql_alpha": -1.0}, "cql_alpha=-1.0 must not be negative"),
        ("decqn-iql", {"expectile": 1.0}, "expectile=1.0 does not lie between 0 and 1"),
        ("decqn-onestep", {"extraction_temperature": 0.0}, "extraction_temperature=0.0 must be positive"),
    ],
)
def test_settings_that_mean_nothing_are_refused(name, settings, said):
    with pytest.raises(UserError, match=said):
        replace(settings_of(name), **settings)
