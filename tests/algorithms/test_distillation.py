"""spin-distill: its student learns the trunk's tokens, once, and is frozen from then on."""

import pytest
import torch

from spin_rl.algorithms.asm.files import load_asm
from spin_rl.algorithms.data.batches import DeviceTransitions
from spin_rl.algorithms.policies.distillation import student_loss
from spin_rl.algorithms.training.agent import OfflineAgent
from tests.algorithms.toy_agent import assert_same_bits, make_agent

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(toy) -> DeviceTransitions:
    return DeviceTransitions(toy, CPU)


def test_the_student_learns_the_trunks_tokens_and_is_frozen_afterwards(data, asm_folder):
    asm, policy = load_asm(asm_folder), make_agent("spin-distill", asm_folder).policy
    assert int(policy.trained) == 0
    before = {name: value.clone() for name, value in asm.state_dict().items()}
    losses = policy.distill(asm, data, steps=400, seed=0)
    assert losses[-1] < 0.1 * losses[0]
    assert int(policy.trained) == 400
    assert not any(parameter.requires_grad for parameter in policy.student.parameters())
    assert_same_bits(asm.state_dict(), before)

    with torch.no_grad():
        target = asm.eval().mix(data.observations, asm.mask_embeddings().expand(len(data.observations), -1, -1))
        mine = policy.features(data.observations)
    assert torch.equal(policy.queries, asm.mask_embeddings())
    error = float(student_loss(mine, target))
    assert error == pytest.approx(float(((mine - target) ** 2).mean()))
    spread = float((target - target.mean(0)).square().mean())
    assert error < 0.5 * spread  # it knows the state, not only the query


def test_tokens_depend_on_the_state_and_their_own_query_alone(asm_folder):
    policy = make_agent("spin-distill", asm_folder).policy
    observation = torch.randn(4, 3)
    before = policy.features(observation)
    policy.queries[1] += 1.0
    after = policy.features(observation)
    assert torch.equal(before[:, [0, 2]], after[:, [0, 2]])
    assert not torch.equal(before[:, 1], after[:, 1])


def test_a_restored_agent_keeps_its_student(data, asm_folder, monkeypatch):
    agent = make_agent("spin-distill", asm_folder)
    assert agent.prepare(data) > 0
    assert agent.prepare(data) == 0.0
    tensors, values = agent.state()
    monkeypatch.setattr(
        "spin_rl.algorithms.policies.distilled.distill", lambda *_, **__: pytest.fail("distilled again")
    )
    restored = make_agent("spin-distill", asm_folder)
    restored.load_state(tensors, values)
    restored.prepare(data)
    restored.train(data, 3)
    student = {name: value for name, value in restored.policy.state_dict().items() if "student" in name}
    assert_same_bits(student, {f"student.{name}": v for name, v in agent.policy.student.state_dict().items()})


def test_distillation_is_a_function_of_its_seed(data, asm_folder):
    students = []
    for seed in (0, 0, 1):
        torch.randn(10)
        policy = make_agent("spin-distill", asm_folder).policy
        policy.distill(load_asm(asm_folder), data, steps=5, seed=seed, batch_size=32)
        students.append(policy.student.state_dict())
    assert_same_bits(students[0], students[1])
    assert not torch.equal(students[0]["inner.weight"], students[2]["inner.weight"])


def test_finetune_has_its_own_rate_for_encoder_and_trunk(data, asm_folder):
    """Adam's first step moves every weight by its rate, whatever the gradient."""
    agent: OfflineAgent = make_agent("finetune", asm_folder)
    before = {name: value.clone() for name, value in agent.policy.named_parameters()}
    agent.train(data, 1)
    asm = load_asm(asm_folder).state_dict()
    for name, value in agent.policy.named_parameters():
        step = float((value.detach() - before[name]).abs().max())
        taken_over = name.startswith(("trunk", "state_encoder"))
        assert step == pytest.approx(3e-5 if taken_over else 3e-4, rel=0.02), name
        assert not taken_over or torch.equal(before[name], asm[name])
