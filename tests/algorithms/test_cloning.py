"""Cloning: it reaches what the data allow, resumes to the same bits, and policies start from it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from spin_rl.algorithms.asm.model import ActionStructureModel
from spin_rl.algorithms.cloning.cloning import CloneConfig
from spin_rl.algorithms.cloning.files import load_clone, read_clone_shape
from spin_rl.algorithms.cloning.networks import NETWORKS
from spin_rl.algorithms.data.batches import DeviceTransitions
from spin_rl.algorithms.methods import METHODS, get_method
from spin_rl.algorithms.policies.factored import FactoredPolicy, width_of_asm
from spin_rl.algorithms.presets import get_preset
from spin_rl.algorithms.pretraining.checkpoints import ensure_pretrained, model_identity
from spin_rl.algorithms.training.agent import OfflineAgent
from spin_rl.errors import UserError
from spin_rl.platform.asm_store.store import ASMStore
from spin_rl.platform.common.identity import identity_key
from tests.algorithms.toy_agent import NVEC, OBSERVATION, agent_spec, assert_same_bits

CPU = torch.device("cpu")
TINY = get_preset("tiny")
each_network = pytest.mark.parametrize("network", NETWORKS)
CLONED = [name for name, method in METHODS.items() if method.uses_clone]


def config_of(network: str, **changes: object) -> CloneConfig:
    return CloneConfig(**{"network": network, "preset": TINY, "batch_size": 32, **changes})


@pytest.fixture(scope="module")
def coins(toy):
    """Two independent fair coins where the observation's first number is negative, a constant elsewhere."""
    random = np.random.default_rng(0)
    actions = np.zeros_like(toy.actions)
    undecided = toy.observations[: len(actions), 0] < np.median(toy.observations[: len(actions), 0])
    actions[:, :2] = random.integers(0, 2, (len(actions), 2)) * undecided[:, None]
    return replace(toy, actions=actions), float(undecided[toy.transitions].mean()) * 2 / 3 * np.log(2)


@each_network
def test_a_clone_reaches_the_conditional_entropy_of_the_data(coins, network):
    """Fails where the loss is not the likelihood of the data's actions, or where the state does not matter to it."""
    data, entropy = coins
    run = config_of(network, learning_rate=5e-3, validation_fraction=0.3).begin(data)
    before = run.validate().loss
    run.train(250)
    found = run.validate()
    assert before > 2 * entropy
    assert found.loss == pytest.approx(entropy, abs=0.12)
    assert found.accuracy > 0.75
    assert (found.loss, found.accuracy) == (found.full_loss, found.full_accuracy)


@each_network
def test_the_loss_is_the_mean_over_sub_actions_of_their_cross_entropy(toy, network):
    run = config_of(network).begin(toy)
    observation, action = DeviceTransitions(toy, CPU).observation_action(torch.arange(20))
    policy = run.model.eval()
    expected = 0.0
    if network == "autoregressive":
        expected = -float(policy.log_probs(observation, action).detach().numpy().astype(np.float64).sum()) / 60
    else:
        logits = policy.logits(observation).detach().numpy().astype(np.float64)
        for row, choices in zip(logits, action.tolist(), strict=True):
            for slot, choice in enumerate(choices):
                scores = row[slot][: NVEC[slot]]
                expected += (np.log(np.exp(scores).sum()) - scores[choice]) / 60
    assert float(run.loss(observation, action).detach()) == pytest.approx(expected, rel=1e-5)


@each_network
def test_a_cloning_that_is_cut_resumes_to_the_same_bits(toy, tmp_path, network):
    config = config_of(network)
    straight = config.begin(toy)
    straight.train(60)
    first = config.begin(toy)
    first.train(3)
    first.validate()
    first.train(11)
    (tmp_path / "11").mkdir()
    first.save(tmp_path / "11")
    torch.randn(100)
    second = config.begin(toy)
    second.load(tmp_path / "11")
    assert (second.step, second.seconds) == (11, first.seconds)
    second.train(60)
    for name, run in (("straight", straight), ("second", second)):
        (tmp_path / name).mkdir()
        run.save(tmp_path / name)
    for file in ("model.safetensors", "training.safetensors"):
        assert_same_bits(load_file(tmp_path / "straight" / file), load_file(tmp_path / "second" / file))


def test_the_seed_has_its_effect(toy):
    runs = []
    for seed in (1, 1, 2):
        run = config_of("factored", seed=seed).begin(toy)
        run.train(5)
        runs.append(run.model.state_dict())
    assert_same_bits(runs[0], runs[1])
    assert not torch.equal(runs[0]["heads.weight"], runs[2]["heads.weight"])


def test_an_address_is_of_the_network_alone_and_stays(toy):
    config = config_of("factored")
    other_fields = replace(TINY, critic_width=99, student_width=99, policy_dropout=0.1)
    assert config == config_of("factored", preset=other_fields)
    assert config != config_of("factored", preset=replace(TINY, policy_width=17))
    assert identity_key({"dataset": "d", **config.identity()}) == "1c8522d713bdddec"
    assert identity_key({"dataset": "d", **config_of("saint", seed=3).identity()}) == "a8558724fb882f0d"


@each_network
def test_the_store_extends_a_clone_and_reads_it_as_it_was_written(toy, tmp_path, network):
    store, config = ASMStore(tmp_path), config_of(network)
    first, last = ensure_pretrained(store, toy, config, [0, 20])
    assert (first.step, last.step, first.pretrain_seconds) == (0, 20, 0.0)
    assert last.pretrain_seconds > 0
    straight = config.begin(toy)
    straight.train(20)
    clone = load_clone(Path(last.path))
    assert_same_bits(clone.state_dict(), straight.model.state_dict())
    assert store.identity(last) == {**model_identity(toy, config), "kind": "bc"}
    assert read_clone_shape(Path(last.path)).network == network
    again = ensure_pretrained(store, toy, config, [30])[0]
    straight = config.begin(toy)
    straight.train(30)
    assert_same_bits(load_clone(Path(again.path)).state_dict(), straight.model.state_dict())


def test_a_damaged_clone_is_refused_and_made_again(toy, tmp_path):
    store, config = ASMStore(tmp_path), config_of("factored")
    (made,) = ensure_pretrained(store, toy, config, [5])
    weights = Path(made.path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"bits")
    with pytest.raises(UserError, match=r"clone in .* is damaged"):
        load_clone(Path(made.path))
    (again,) = ensure_pretrained(store, toy, config, [5])
    load_clone(Path(again.path))
    assert again.path == made.path


@pytest.mark.parametrize("method", CLONED)
def test_a_policy_starts_from_the_clone_and_what_is_frozen_does_not_move(toy, method):
    """Before the first update, a method that keeps the clone's heads gives its probabilities: it plays as the clone."""
    run = config_of(get_method(method).cloned, learning_rate=1e-2).begin(toy)
    run.train(20)
    clone = run.model.eval()
    agent = OfflineAgent(agent_spec(method), asm=clone)
    policy = agent.policy
    observation, action = DeviceTransitions(toy, CPU).observation_action(torch.arange(30))
    before = {name: value.clone() for name, value in policy.named_parameters()}
    frozen = {name for name, value in policy.named_parameters() if not value.requires_grad}
    if method.startswith("bpr"):
        assert frozen == {"encoder.0.weight", "encoder.0.bias", "encoder.2.weight", "encoder.2.bias"}
        phi = torch.relu(clone.body(observation))
        torch.testing.assert_close(policy.features(observation), phi, rtol=0, atol=0)
        assert torch.equal(policy.features(observation), policy.train().features(observation))
    else:
        assert not frozen
        policy.eval()
        torch.testing.assert_close(
            policy.log_probs(observation, action), clone.log_probs(observation, action), rtol=0, atol=0
        )
    untouched = {name: value.clone() for name, value in clone.named_parameters()}
    agent.train(DeviceTransitions(toy, CPU), 5)
    for name, value in policy.named_parameters():
        assert torch.equal(value, before[name]) == (name in frozen), name
    assert_same_bits(dict(clone.named_parameters()), untouched)


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_one_clone_serves_objectives_with_and_without_dropout(dropout):
    """Dropout layers shift the names of the others: parameters go by their order."""
    clone = FactoredPolicy(OBSERVATION, NVEC, 16)
    policy = FactoredPolicy(OBSERVATION, NVEC, 16, dropout)
    policy.start_from(clone)
    observation = torch.randn(5, OBSERVATION)
    assert torch.equal(policy.eval().logits(observation), clone.eval().logits(observation))


def test_a_wide_clone_has_the_action_structure_models_parameters(toy):
    for preset in (TINY, get_preset("paper")):
        asm = sum(p.numel() for p in ActionStructureModel(17, (3, 2, 4), preset.asm).parameters())
        width = width_of_asm(17, (3, 2, 4), preset)
        mine, more = (sum(p.numel() for p in FactoredPolicy(17, (3, 2, 4), w).parameters()) for w in (width, width + 1))
        assert mine <= asm < more


def test_a_clone_of_another_network_is_refused(toy):
    clone = config_of("autoregressive").begin(toy).model
    with pytest.raises(UserError, match=r"clone is of AutoregressivePolicy, .* starts from the network 'factored'"):
        OfflineAgent(agent_spec("bpr"), asm=clone)
    with pytest.raises(UserError, match="needs a clone of the network 'factored'"):
        OfflineAgent(agent_spec("factored-bc"))
    with pytest.raises(UserError, match="cloned network"):
        config_of("mlp")
