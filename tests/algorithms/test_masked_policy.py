"""spin-decode: the bound that it is trained with, decoding in K passes, and that it can hold two joint modes."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_decoding import Table
from torch import Tensor

from spin_rl.algorithms.asm.decoding import Decoding
from spin_rl.algorithms.asm.files import load_asm
from spin_rl.algorithms.asm.hiding import HIDING, Hidden
from spin_rl.algorithms.asm.model import ActionStructureModel, ASMSizes
from spin_rl.algorithms.data.batches import DeviceTransitions
from spin_rl.algorithms.methods import METHODS
from spin_rl.algorithms.objectives import IQL, IQLSettings, get_objective
from spin_rl.algorithms.policies.decoding import decode
from spin_rl.algorithms.policies.masked import MaskedPolicy, bound_terms
from spin_rl.algorithms.presets import get_preset
from spin_rl.algorithms.settings.names import parse_settings
from spin_rl.algorithms.training.agent import OfflineAgent
from spin_rl.errors import UserError
from tests.algorithms.toy_agent import NVEC, OBSERVATION, agent_spec, make_agent, random_batch

SIZES = ASMSizes(width=8, heads=2, layers=1, head_width=8, dropout=0.0)


def make(decoding: Decoding | None = None, **settings: object) -> MaskedPolicy:
    torch.manual_seed(0)
    return MaskedPolicy(OBSERVATION, NVEC, SIZES, decoding or Decoding(), 1e-3, **settings)


@pytest.mark.parametrize("hiding", HIDING)
def test_every_set_of_masks_counts_what_the_bound_says(hiding):
    """(m - 1)! (N - m)! / N!, the integral over the rate r of r^(m - 1) (1 - r)^(N - m)."""
    torch.manual_seed(0)
    count, samples = 3, 200_000
    hidden = HIDING[hiding](torch.zeros(samples, count, dtype=torch.long))
    assert hidden.weight.shape == (samples, 1)
    for size in (1, 2, 3):
        expected = math.factorial(size - 1) * math.factorial(count - size) / math.factorial(count)
        for chosen in itertools.combinations(range(count), size):
            wanted = torch.tensor([index in chosen for index in range(count)])
            found = (hidden.weight[:, 0] * (hidden.mask == wanted).all(-1)).mean()
            assert float(found) == pytest.approx(expected, rel=0.05), chosen
    if hiding == "number":
        assert float(hidden.weight.max()) <= count
        assert bool(hidden.mask.any(-1).all())


def test_a_term_is_the_weighted_log_probability_of_what_is_hidden():
    random = np.random.default_rng(0)
    logits, action = random.normal(size=(2, 3, 4)), np.array([[2, 1, 3], [0, 0, 1]])
    logits[:, 0, 3:] = logits[:, 1, 2:] = -np.inf
    mask, weight = np.array([[True, False, True], [False, True, False]]), np.array([[1.5], [3.0]])
    found = bound_terms(torch.tensor(logits), torch.tensor(action), Hidden(torch.tensor(mask), torch.tensor(weight)))
    for b, i in np.ndindex(2, 3):
        log_probability = logits[b, i, action[b, i]] - np.log(np.exp(logits[b, i]).sum())
        assert float(found[b, i]) == pytest.approx(weight[b, 0] * log_probability if mask[b, i] else 0.0)


@pytest.mark.parametrize("hiding", HIDING)
def test_the_bound_is_exact_for_the_conditionals_of_one_distribution(hiding):
    torch.manual_seed(0)
    table, action = Table(), torch.tensor([[2, 0, 3]]).expand(40_000, -1)
    hidden = HIDING[hiding](action)
    logits = table.predict(torch.where(hidden.mask, torch.tensor(NVEC), action))
    bound = bound_terms(logits, action, hidden).sum(-1).mean()
    assert float(bound) == pytest.approx(np.log(table.joint[2, 0, 3]), rel=0.05)


def test_iqls_actor_loss_is_the_weighted_masked_loss_of_a_model_that_reads_masks():
    """The actor's loss is mean of (w / r) x the sum of the masked cross-entropies."""
    policy = make(hiding="rate").eval()
    batch = random_batch(32)
    rate = torch.rand(32, 1)
    mask = torch.rand(32, len(NVEC)) < rate
    policy.hide = lambda action: Hidden(mask, 1.0 / rate)
    iql = IQL(policy, OBSERVATION, NVEC, IQLSettings(critic_width=8, beta=2.0))
    iql.make_optimizers()
    with torch.no_grad():
        lowest = iql.target_critic.joint_value(batch.observation, batch.action).amin(0)
        weight = (2.0 * (lowest - iql.value(batch.observation))).exp().clamp(max=100.0)
        tokens = batch.action.clone()
        for b, i in np.ndindex(32, len(NVEC)):
            if mask[b, i]:
                tokens[b, i] = NVEC[i]
        log_p = policy.model(batch.observation, tokens).log_softmax(-1)
        losses = []
        for b in range(32):
            masked = [-log_p[b, i, batch.action[b, i]] for i in range(len(NVEC)) if mask[b, i]]
            losses.append(weight[b] / rate[b, 0] * sum(masked, torch.zeros(())))
    assert float(iql.update(batch)["actor_loss"]) == pytest.approx(float(torch.stack(losses).mean()), rel=1e-4)


def test_the_reported_bound_is_the_mean_over_masks_and_trains_nothing():
    policy, batch = make().eval(), random_batch(3)
    torch.manual_seed(1)
    expected = torch.stack([policy.log_probs(batch.observation, batch.action).sum(-1) for _ in range(5)]).mean(0)
    torch.manual_seed(1)
    found = policy.elbo(batch.observation, batch.action, 5)
    torch.testing.assert_close(found, expected.double())
    assert not found.requires_grad


def test_the_policys_passes_are_those_of_its_model():
    policy = make(Decoding(2)).eval()
    observation = torch.randn(7, OBSERVATION)
    uniforms = torch.rand(7, policy.draws(sample=True), dtype=torch.float64)

    def predict(tokens: Tensor) -> Tensor:
        return policy.model(observation, tokens)

    with torch.no_grad():
        for given in (uniforms, None):
            expected = decode(predict, policy.model.mask_tokens, 7, policy.decoding, given)
            assert torch.equal(policy.decide(observation, given, sample=given is not None), expected)
        alone = torch.cat([policy.act(observation[b : b + 1], uniforms[b : b + 1]) for b in range(7)])
        assert torch.equal(policy.act(observation, uniforms), alone)


# what it can do that factorised policies cannot


def invalid_share(policy, samples: int = 4000) -> float:
    """Share of sampled joint actions that are neither (0, .., 0) nor (1, .., 1)."""
    policy.eval()
    observation = torch.ones(samples, 1)
    uniforms = torch.rand(samples, policy.draws(sample=True), dtype=torch.float64)
    with torch.no_grad():
        actions = policy.decide(observation, uniforms, sample=True)
    return float((actions != actions[:, :1]).any(-1).float().mean())


def clone_two_modes(policy, steps: int) -> None:
    """Maximise the log-likelihood (or its bound) of (0, .., 0) and (1, .., 1), each half of the data."""
    optimizer = torch.optim.Adam(policy.parameters(), 3e-3)
    for _ in range(steps):
        action = (torch.rand(64, 1) < 0.5).long().expand(64, len(policy.nvec))
        loss = -policy.log_probs(policy.features(torch.ones(64, 1)), action).sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_two_joint_modes_are_kept_apart_by_decoding_in_passes_and_by_no_factorised_head():
    """Fails where masks do not reach the loss, or visible sub-actions do not reach the later passes."""
    nvec = (2,) * 6
    for name in ("factored", "saint", "saint-film"):
        torch.manual_seed(0)
        factorised = METHODS[name].build(1, nvec, get_preset("tiny"))
        clone_two_modes(factorised, 100)
        assert invalid_share(factorised) > 0.9  # 1 - 2 / 2**6
    torch.manual_seed(0)
    policy = MaskedPolicy(1, nvec, replace(SIZES, width=16, head_width=16), Decoding(6), 1e-3)
    clone_two_modes(policy, 250)
    assert invalid_share(policy) < 0.02
    ones = policy.act(torch.ones(2000, 1), torch.rand(2000, 36, dtype=torch.float64)).double().mean()
    assert 0.25 < float(ones) < 0.75  # both modes
    policy.decoding = Decoding(1)
    assert invalid_share(policy) > 0.9


# start, freezing, settings


def test_it_starts_from_the_whole_model(asm_folder):
    asm, policy = load_asm(asm_folder), make_agent("spin-decode", asm_folder).policy
    for name, value in policy.model.state_dict().items():
        assert torch.equal(value, asm.state_dict()[name]), name
    rates = policy.own_rates()
    body = {name for name, parameter in policy.model.named_parameters() if parameter in rates}
    assert body == {name for name, _ in policy.model.named_parameters() if not name.startswith("heads.")}
    assert set(rates.values()) == {get_preset("tiny").trunk_learning_rate}


def test_frozen_only_new_heads_train(toy, asm_folder):
    spec = agent_spec("spin-decode")
    spec = replace(spec, preset=replace(spec.preset, decode_frozen=True))
    asm, agent = load_asm(asm_folder), OfflineAgent(spec, asm=load_asm(asm_folder))
    before = {name: value.clone() for name, value in agent.policy.model.state_dict().items()}
    assert not torch.equal(before["heads.inner.weight"], asm.state_dict()["heads.inner.weight"])
    agent.train(DeviceTransitions(toy, torch.device("cpu")), 5)
    for name, value in agent.policy.model.state_dict().items():
        assert torch.equal(value, before[name]) != name.startswith("heads."), name
        assert torch.equal(value, asm.state_dict()[name]) != name.startswith("heads."), name


@pytest.mark.parametrize("trunk_dropout", [True, False])
def test_dropout_in_the_trunk_is_a_setting(trunk_dropout):
    policy = make(trunk_dropout=trunk_dropout).train()
    assert all(module.training == trunk_dropout for module in policy.model.trunk.modules())
    assert policy.model.heads.training
    policy.eval()
    assert not any(module.training for module in policy.modules())


def test_a_model_of_other_heads_is_refused_unless_heads_are_new():
    asm = ActionStructureModel(OBSERVATION, NVEC, replace(SIZES, head_width=5))
    with pytest.raises(UserError, match=r"head_width 5, spin-decode .* needs 8: .* decode_frozen=true"):
        make().start_from(asm)
    frozen = MaskedPolicy(OBSERVATION, NVEC, SIZES, Decoding(), None)
    frozen.start_from(asm)
    assert torch.equal(frozen.model.embeddings.weight, asm.embeddings.weight)


@pytest.mark.parametrize("objective", ["awac", "bcq"])
def test_expected_values_and_candidates_come_from_decoded_samples(toy, asm_folder, objective):
    spec = replace(agent_spec("spin-decode"), objective=get_objective(objective).settings_class(critic_width=16))
    agent = OfflineAgent(spec, asm=load_asm(asm_folder))
    agent.train(DeviceTransitions(toy, torch.device("cpu")), 3)
    assert agent.policy.value_draws(4) == 4 * 9
    observation, draws = torch.randn(5, OBSERVATION), agent.objective.draws(sample=False)
    uniforms = torch.rand(5, draws, dtype=torch.float64) if draws else None
    action = agent.objective.eval().decide(observation, uniforms, sample=False)
    assert bool((action < torch.tensor(NVEC)).all())
    assert draws == (90 if objective == "bcq" else 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"decode_passes": 0}, "decode_passes=0 must be a whole number of at least 1"),
        ({"decode_passes": 2.5}, r"decode_passes=2\.5 must be a whole number"),
        ({"decode_passes": True}, "decode_passes=True must be a whole number"),
        ({"decode_temperature": -1.0}, r"decode_temperature=-1\.0 must be 0 or a positive number"),
        ({"decode_temperature": float("inf")}, "decode_temperature=inf must be"),
        ({"decode_schedule": "sudden"}, "There is no schedule of decoding 'sudden'"),
        ({"decode_confidence": "full"}, "There is no confidence of decoding 'full'"),
        ({"decode_hiding": "none"}, "There is no decode_hiding 'none'"),
    ],
)
def test_settings_that_there_cannot_be_are_refused(changes, said):
    with pytest.raises(UserError, match=said):
        get_preset("tiny", **changes)


def test_more_passes_than_sub_actions_are_refused_before_anything_is_read():
    preset = get_preset("tiny", decode_passes=4)
    with pytest.raises(UserError, match=r"decode_passes=4 is more than the 3 sub-actions .*: give at most 3"):
        METHODS["spin-decode"].check(NVEC, preset)
    with pytest.raises(UserError, match="decode_passes=4 is more than the 3 sub-actions"):
        METHODS["spin-decode"].build(OBSERVATION, NVEC, preset)


def test_its_settings_are_given_by_name():
    written = "decode_passes=4 decode_schedule=linear decode_temperature=1 decode_confidence=choice decode_frozen=true"
    preset = get_preset("tiny", **parse_settings(written.split()))
    assert preset.decoding == Decoding(4, 1, "linear", "choice")
    assert preset.decode_frozen is True
    with pytest.raises(UserError, match="decode_passes is a number"):
        parse_settings(["decode_passes=all"])
