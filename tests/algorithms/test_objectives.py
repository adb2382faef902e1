"""Every objective with every method: exact resume, checkpoints that act, and settings that do not fit."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from spin_rl.algorithms.asm.files import load_asm
from spin_rl.algorithms.data.batches import DeviceTransitions
from spin_rl.algorithms.evaluation.batch_policy import ActingPolicy
from spin_rl.algorithms.methods import get_method
from spin_rl.algorithms.objectives import get_objective
from spin_rl.algorithms.presets import get_preset
from spin_rl.algorithms.settings import check_trial, parse_settings
from spin_rl.algorithms.training.agent import AgentSpec, OfflineAgent, build_objective
from spin_rl.algorithms.training.checkpoints import load_objective, save_agent_spec
from spin_rl.errors import UserError
from tests.algorithms.toy_agent import NVEC, OBSERVATION, PAIRS, assert_same_bits

CPU = torch.device("cpu")


def make(method: str, objective: str, asm_folder) -> OfflineAgent:
    settings = get_objective(objective).settings_class(critic_width=16)
    spec = AgentSpec(method, OBSERVATION, NVEC, get_preset("tiny", distill_steps=3), settings, batch_size=16)
    return OfflineAgent(spec, asm=load_asm(asm_folder) if get_method(method).uses_asm else None)


@pytest.mark.parametrize(("method", "objective"), [pair for pair in PAIRS if pair[1] != "iql"])
def test_a_run_that_is_cut_goes_on_to_the_same_bits_and_its_checkpoint_acts(
    toy, asm_folder, tmp_path, method, objective
):
    data = DeviceTransitions(toy, CPU)
    straight = make(method, objective, asm_folder)
    straight.train(data, 4)
    losses = straight.train(data, 6)

    first = make(method, objective, asm_folder)
    first.train(data, 4)
    tensors, values = first.state()
    save_file(tensors, tmp_path / "learner.safetensors")
    torch.randn(100)
    second = make(method, objective, asm_folder)
    second.train(data, 2)
    second.load_state(load_file(tmp_path / "learner.safetensors"), values)
    assert second.train(data, 6) == losses
    assert_same_bits(second.state()[0], straight.state()[0])

    save_agent_spec(first.spec, tmp_path)
    read = load_objective(tmp_path)
    assert type(read) is type(first.objective)
    observation = np.random.default_rng(0).normal(size=(50, OBSERVATION)).astype(np.float32)
    for sample in (True, False):
        mine, theirs = (ActingPolicy(actor, CPU, sample=sample) for actor in (first.objective, read))
        uniforms = np.random.default_rng(1).random((50, mine.draws))
        np.testing.assert_array_equal(mine.act(observation, uniforms), theirs.act(observation, uniforms))
    if first.policy is not None and objective != "bcq":
        policy = ActingPolicy(first.policy, CPU, sample=False)
        np.testing.assert_array_equal(theirs.act(observation, uniforms), policy.act(observation, uniforms))


def test_bcq_is_greedy_and_clones_without_dropout_unless_told_otherwise(asm_folder):
    assert [get_objective(name).sampled for name in ("iql", "awac", "bcq")] == [True, True, False]
    rates = {name: make("factored", name, asm_folder).policy.dropout.p for name in ("iql", "awac", "bcq")}
    assert rates == {"iql": 0.1, "awac": 0.1, "bcq": 0.0}
    settings = get_objective("bcq").settings_class(critic_width=16)
    spec = AgentSpec("factored", OBSERVATION, NVEC, get_preset("tiny", policy_dropout=0.2), settings)
    assert build_objective(spec).policy.dropout.p == 0.2


@pytest.mark.parametrize(
    ("trial", "message"),
    [
        ({"objective": "bcq", "expectile": 0.7}, "expectile=0.7 is a setting of iql, the objective is bcq"),
        ({"objective": "bcq", "weight_cap": 5}, "weight_cap=5 is a setting of iql and awac, the objective is bcq"),
        ({"objective": "cql"}, "There is no objective 'cql'.*iql, awac, bcq"),
        ({"objective": "bcq", "threshold": 0.0}, r"threshold=0.0 must lie in \(0, 1\]"),
        ({"objective": "awac", "temperature": 0}, "temperature=0 must be positive"),
        ({"expectile": 1.0}, "expectile=1.0 does not lie between 0 and 1"),
        ({"algorithm": "factored", "asm": "x"}, "factored starts from no pretrained model, but asm=x is given"),
        ({"algorithm": "saint", "feature_dtype": "bfloat16"}, "a setting of spin-cached, the method is saint"),
        ({"algorithm": "spin-cached", "feature_dtype": "int8"}, "There is no feature dtype 'int8'"),
        ({"algorithm": "spin-distill", "trunk_dropout": True}, "trunk_dropout=True .* spin-distill trains on constant"),
        ({"network": {"width": 3}}, "names a size that there is not"),
    ],
)
def test_settings_that_do_not_fit_are_named_on_both_sides_before_data_is_read(trial, message):
    with pytest.raises(UserError, match=message):
        check_trial({"algorithm": "spin", **trial})


def test_settings_that_fit_are_taken():
    check_trial({"algorithm": "spin-cached", "objective": "awac", "temperature": 0.5, "feature_dtype": "bfloat16"})
    check_trial({"algorithm": "spin", "trunk_dropout": True, "preset": "small", "label": "anything"})
    given = parse_settings(
        ["lr=1e-3", "trunk_dropout=false", "feature_dtype=bfloat16", 'network={"asm": {"width": 8}}']
    )
    assert given == {
        "lr": 1e-3,
        "trunk_dropout": False,
        "feature_dtype": "bfloat16",
        "network": {"asm": {"width": 8}},
    }
    for wrong in ("lr", "lr=fast", "speed=1"):
        with pytest.raises(UserError):
            parse_settings([wrong])
