"""The agent: a run is a function of its settings and its data, and goes on from its state to the same bits."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from spin_rl.algorithms.asm.model import ActionStructureModel, ASMSizes
from spin_rl.algorithms.data.batches import DeviceTransitions
from spin_rl.algorithms.training.agent import DivergedError, OfflineAgent, attach_asm, build_objective, check_asm_data
from spin_rl.errors import UserError
from tests.algorithms.toy_agent import POLICY_METHODS, agent_spec, assert_same_bits, make_agent

CPU = torch.device("cpu")
each_method = pytest.mark.parametrize("method", POLICY_METHODS)


@pytest.fixture(scope="module")
def data(toy) -> DeviceTransitions:
    return DeviceTransitions(toy, CPU)


@each_method
def test_a_run_that_is_cut_goes_on_to_the_same_bits(data, asm_folder, tmp_path, method):
    straight = make_agent(method, asm_folder)
    losses = [straight.train(data, 7), straight.train(data, 90)][1]

    first = make_agent(method, asm_folder)
    first.train(data, 3)
    first.train(data, 4)
    tensors, values = first.state()
    save_file(tensors, tmp_path / "state.safetensors")
    first.train(data, 5)  # the state was taken, not borrowed
    torch.randn(100)
    second = make_agent(method, asm_folder)
    second.train(data, 2)
    second.load_state(load_file(tmp_path / "state.safetensors"), values)
    assert second.train(data, 90) == losses
    assert second.updates == straight.updates == 97
    assert_same_bits(second.state()[0], straight.state()[0])


@each_method
def test_a_state_from_before_the_first_update_is_one_too(data, asm_folder, method):
    straight = make_agent(method, asm_folder)
    tensors, values = straight.state()
    straight.train(data, 4)
    resumed = make_agent(method, asm_folder)
    torch.randn(100)
    resumed.load_state(tensors, values)
    resumed.train(data, 4)
    assert_same_bits(resumed.state()[0], straight.state()[0])


@each_method
def test_the_seed_has_its_effect(data, asm_folder, method):
    runs = []
    for seed in (1, 1, 2):
        torch.randn(10)
        agent = make_agent(method, asm_folder, seed=seed)
        runs.append((agent.train(data, 10), agent.state()[0]))
    assert runs[0][0] == runs[1][0]
    assert_same_bits(runs[0][1], runs[1][1])
    assert runs[0][0] != runs[2][0]


def test_how_the_updates_are_cut_does_not_matter(data, asm_folder):
    whole = make_agent("factored", asm_folder)
    whole.train(data, 130)  # past what is gathered at once
    pieces = make_agent("factored", asm_folder)
    for count in (1, 64, 65):
        pieces.train(data, count)
    assert_same_bits(whole.state()[0], pieces.state()[0])


def test_losses_are_means_over_the_updates(data, asm_folder):
    single = make_agent("factored", asm_folder)
    each = [single.train(data, 1) for _ in range(5)]
    for name, value in make_agent("factored", asm_folder).train(data, 5).items():
        assert value == pytest.approx(sum(losses[name] for losses in each) / 5, rel=1e-6)


def test_a_loss_that_is_not_finite_is_named(data, asm_folder):
    spec = agent_spec("factored")
    agent = OfflineAgent(replace(spec, objective=replace(spec.objective, learning_rate=1e30)))
    with pytest.raises(DivergedError, match=r"\w+ became (nan|inf|-inf) in update [1-9]; try a smaller learning rate"):
        agent.train(data, 10)


def test_spin_without_a_model_says_the_command():
    with pytest.raises(UserError, match=r"SPIN needs a pretrained .*'spin-rl pretrain TASK LEVEL'"):
        OfflineAgent(agent_spec("spin"))


@pytest.mark.parametrize(
    ("observation_size", "nvec", "sizes", "said"),
    [
        (4, (3, 2, 4), {}, "observation size 4, the policy needs 3"),
        (3, (3, 2, 5), {}, r"nvec \(3, 2, 5\), the policy needs \(3, 2, 4\)"),
        (3, (3, 2, 4), {"width": 32}, "width 32, the policy needs 16"),
        (3, (3, 2, 4), {"heads": 4}, "heads 4, the policy needs 2"),
        (3, (3, 2, 4), {"layers": 2}, "layers 2, the policy needs 1"),
        (3, (3, 2, 4), {"state_tokens": 2}, "state_tokens 2, the policy needs 1"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_with_both_sides(observation_size, nvec, sizes, said):
    fitting = {"width": 16, "heads": 2, "layers": 1, "head_width": 16}
    asm = ActionStructureModel(observation_size, nvec, ASMSizes(**(fitting | sizes)))
    spec = agent_spec("spin")
    with pytest.raises(UserError, match=said):
        attach_asm(build_objective(spec), asm, spec)


def test_a_model_of_other_heads_fits(asm_folder):
    asm = ActionStructureModel(3, (3, 2, 4), ASMSizes(width=16, heads=2, layers=1, head_width=64, dropout=0.0))
    spec = agent_spec("spin")
    objective = build_objective(spec)
    attach_asm(objective, asm, spec)
    assert torch.equal(objective.policy.trunk.blocks[0].out.weight, asm.trunk.blocks[0].out.weight)


def test_a_model_of_another_task_is_refused_with_both_names(asm_checkpoint):
    check_asm_data(asm_checkpoint, "toy", 4)
    with pytest.raises(UserError, match=r"pretrained on toy with 4 bins.*walker with 3.*spin-rl pretrain walker"):
        check_asm_data(asm_checkpoint, "walker", 3)
    with pytest.raises(UserError, match=r"toy with 4 bins.*toy with 10.*--bins 10"):
        check_asm_data(asm_checkpoint, "toy", 10)
    assert Path(asm_checkpoint.path).is_dir()


def test_an_objective_that_was_built_elsewhere_trains_to_the_same_bits(data, asm_folder):
    """RLlib builds it, and draws what it likes before the agent is made."""
    inside = make_agent("factored", asm_folder)
    inside.train(data, 3)
    objective = build_objective(agent_spec("factored"))
    torch.randn(10)
    outside = OfflineAgent(agent_spec("factored"), objective=objective)
    outside.train(data, 3)
    assert_same_bits(outside.state()[0], inside.state()[0])
