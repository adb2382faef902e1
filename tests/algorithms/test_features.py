"""spin-cached: its table holds what the trunk gives, wherever it lies, and changes nothing but the speed."""

import shutil
from collections import namedtuple
from dataclasses import replace

import pytest
import torch

from spin_rl.algorithms.asm.files import load_asm
from spin_rl.algorithms.data.batches import DeviceTransitions
from spin_rl.algorithms.data.features import FeatureStorage
from spin_rl.algorithms.objectives import BCQSettings
from spin_rl.algorithms.policies.slots import SlotPolicy
from spin_rl.algorithms.training.agent import OfflineAgent
from spin_rl.errors import UserError
from tests.algorithms.toy_agent import agent_spec, assert_same_bits, make_agent

CPU = torch.device("cpu")
IN_MEMORY = FeatureStorage()
NO_MEMORY = 1e-9


@pytest.fixture
def data(toy) -> DeviceTransitions:
    return DeviceTransitions(toy, CPU)


def table_of(agent, data, storage):
    return agent.policy.prepare(data, None, storage, seed=0).table


def test_features_are_the_tokens_that_spin_gives_where_its_queries_are_the_masks(data, asm_folder):
    asm = load_asm(asm_folder)
    spin = SlotPolicy(asm.observation_size, asm.nvec, asm.sizes, trunk_dropout=False)
    spin.start_from(asm)
    spin.queries.data = asm.mask_embeddings().detach()
    expected = []
    spin.heads.register_forward_pre_hook(lambda _, tokens: expected.append(tokens[0]))
    with torch.no_grad():
        spin.eval().logits(data.observations)
    table = table_of(make_agent("spin-cached", asm_folder), data, IN_MEMORY)
    found = table.at(torch.arange(len(data.observations)))
    torch.testing.assert_close(found, expected[0], rtol=1e-5, atol=1e-6)
    assert found.std(0).min() > 0  # they are not all the same


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_file_holds_the_same_and_is_found_again(data, asm_folder, tmp_path, monkeypatch, dtype):
    agent = make_agent("spin-cached", asm_folder)
    rows = torch.randint(len(data.observations), (100,))
    in_memory = table_of(agent, data, FeatureStorage(dtype))
    storage = FeatureStorage(dtype, NO_MEMORY, tmp_path)
    on_disk = table_of(agent, data, storage)
    assert torch.equal(on_disk.at(rows), in_memory.at(rows))
    assert on_disk.at(rows).dtype == torch.float32
    exact = table_of(agent, data, IN_MEMORY).at(rows)
    assert torch.equal(in_memory.at(rows), exact) == (dtype == "float32")
    torch.testing.assert_close(in_memory.at(rows), exact, rtol=2**-8, atol=0)
    (file,) = tmp_path.glob("*.bin")
    assert file.stat().st_size == len(data.observations) * 3 * 16 * (4 if dtype == "float32" else 2)
    assert file.name.startswith(data.digest)

    monkeypatch.setattr("spin_rl.algorithms.data.features._compute", lambda *_: pytest.fail("computed a second time"))
    again = table_of(agent, data, storage)
    assert torch.equal(again.at(rows), in_memory.at(rows))
    assert again.seconds == on_disk.seconds  # what it had cost


def test_another_model_has_a_file_of_its_own(data, asm_folder, tmp_path):
    storage = FeatureStorage(memory_gib=NO_MEMORY, folder=tmp_path)
    first, second = (make_agent("spin-cached", asm_folder) for _ in range(2))
    second.policy.heads.outer.bias.data.add_(1.0)  # trains, so the features do not depend on it
    table_of(first, data, storage)
    table_of(second, data, storage)
    assert len(list(tmp_path.glob("*.bin"))) == 1
    second.policy.trunk.blocks[0].out.bias.data.add_(1.0)
    other = table_of(second, data, storage)
    assert len(list(tmp_path.glob("*.bin"))) == 2
    assert not torch.equal(other.at(torch.arange(5)), table_of(first, data, storage).at(torch.arange(5)))


def test_what_fits_nowhere_is_said_in_one_sentence(data, asm_folder, tmp_path, monkeypatch):
    agent = make_agent("spin-cached", asm_folder)
    with pytest.raises(UserError, match=r"need .* GiB, more than the .* GiB of memory .*feature_dtype='bfloat16'"):
        table_of(agent, data, FeatureStorage(memory_gib=NO_MEMORY))
    usage = namedtuple("usage", "total used free")(10, 9, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=rf"more than the .* of memory .* and than the .* free in {tmp_path}"):
        table_of(agent, data, FeatureStorage(memory_gib=NO_MEMORY, folder=tmp_path))
    assert not list(tmp_path.glob("*.bin"))
    with pytest.raises(UserError, match="There is no feature dtype 'int8'"):
        FeatureStorage("int8")


def test_a_write_that_fails_leaves_nothing_behind(data, asm_folder, tmp_path, monkeypatch):
    agent = make_agent("spin-cached", asm_folder)
    storage = FeatureStorage(memory_gib=NO_MEMORY, folder=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(
            "spin_rl.algorithms.data.features._compute", lambda *_: (_ for _ in ()).throw(OSError(28, "No space"))
        )
        with pytest.raises(UserError, match=r"cannot be written \(No space\)"):
            table_of(agent, data, storage)
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".bin", ".new")]
    assert table_of(agent, data, storage).at(torch.arange(3)).isfinite().all()


@pytest.mark.parametrize("objective", ["iql", "bcq"])
def test_training_on_the_table_is_training_on_observations(data, asm_folder, objective):
    """BCQ reads the features of next states too."""
    spec = agent_spec("spin-cached")
    if objective == "bcq":
        spec = replace(spec, objective=BCQSettings(critic_width=16))
    cached, plain = (OfflineAgent(spec, asm=load_asm(asm_folder)) for _ in range(2))
    plain._prepared_for = data  # no table: features are computed in every update
    state = torch.get_rng_state()
    cached.train(data, 20)
    torch.set_rng_state(state)
    plain.train(data, 20)
    assert cached.table is not None
    assert plain.table is None
    for name, value in cached.objective.state_dict().items():
        torch.testing.assert_close(value, plain.objective.state_dict()[name], rtol=0, atol=1e-5, msg=name)


def test_a_table_belongs_to_the_model_and_the_data_it_was_made_for(toy, data, asm_folder):
    agent = make_agent("spin-cached", asm_folder)
    agent.train(data, 1)
    first = agent.table
    agent.train(data, 1)
    assert agent.table is first
    agent.train(DeviceTransitions(toy, CPU), 1)
    assert agent.table is not first
    tensors, values = agent.state()
    other = make_agent("spin-cached", asm_folder, seed=3)
    other.train(data, 1)
    other.load_state({**tensors, "networks.policy.queries": tensors["networks.policy.queries"] + 1}, values)
    other.train(data, 1)
    rows = torch.arange(4)
    assert not torch.equal(other.table.at(rows), first.at(rows))


def test_the_table_adds_nothing_to_the_state(data, asm_folder):
    agent = make_agent("spin-cached", asm_folder)
    before = agent.state()[0]
    agent.prepare(data)
    assert_same_bits(agent.state()[0], before)
