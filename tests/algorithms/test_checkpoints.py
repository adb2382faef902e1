"""Policies read back from checkpoints: the same actions, and one clear sentence where there is none."""

import json

import pytest
import torch
from safetensors.torch import save_file

from spin_rl.algorithms.data.batches import DeviceTransitions
from spin_rl.algorithms.training.checkpoints import load_policy, save_agent_spec
from spin_rl.errors import UserError
from tests.algorithms.toy_agent import POLICY_METHODS, make_agent


def write(agent, folder) -> None:
    save_agent_spec(agent.spec, folder)
    save_file(agent.state()[0], folder / "learner.safetensors")


@pytest.mark.parametrize("method", POLICY_METHODS)
def test_a_policy_read_back_acts_as_it_did(toy, asm_folder, tmp_path, method):
    agent = make_agent(method, asm_folder, seed=7, trunk_dropout=False)
    agent.train(DeviceTransitions(toy, torch.device("cpu")), 5)
    write(agent, tmp_path)
    policy = load_policy(tmp_path)
    assert not any(module.training for module in policy.modules())
    observation = torch.randn(200, 3)
    uniforms = torch.rand(200, policy.draws(sample=True), dtype=torch.float64)
    agent.policy.eval()
    with torch.no_grad():
        for sample in (True, False):
            mine, theirs = (each.decide(observation, uniforms, sample=sample) for each in (agent.policy, policy))
            assert torch.equal(theirs, mine)


@pytest.mark.parametrize(
    "damage", ["missing", "no-spec", "no-weights", "cut", "not-json", "foreign", "other-sizes", "no-policy"]
)
def test_a_folder_that_cannot_be_read_is_named(asm_folder, tmp_path, damage):
    write(make_agent("factored", asm_folder), tmp_path)
    folder, spec, weights = tmp_path, tmp_path / "agent.json", tmp_path / "learner.safetensors"
    match damage:
        case "missing":
            folder = tmp_path / "nowhere"
        case "no-spec":
            spec.unlink()
        case "no-weights":
            weights.unlink()
        case "cut":
            weights.write_bytes(weights.read_bytes()[:-50])
        case "not-json":
            spec.write_text(spec.read_text()[:40])
        case "foreign":
            spec.write_text(json.dumps(["something", "else"]))
        case "other-sizes":
            spec.write_text(spec.read_text().replace('"policy_width": 16', '"policy_width": 8'))
        case "no-policy":
            save_file({"x": torch.zeros(1)}, weights)
    with pytest.raises(UserError, match=f"{folder} is not a checkpoint of a policy that can be read"):
        load_policy(folder)


def test_a_checkpoint_of_an_unknown_method_lists_those_there_are(asm_folder, tmp_path):
    write(make_agent("factored", asm_folder), tmp_path)
    spec = tmp_path / "agent.json"
    spec.write_text(spec.read_text().replace('"factored"', '"factord"'))
    with pytest.raises(UserError, match="Did you mean factored"):
        load_policy(tmp_path)
