"""State dicts of the published layout against a plain implementation of it, written from SPEC.md section 2 alone."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

from spin_rl import cli
from spin_rl.algorithms.asm.files import load_asm
from spin_rl.algorithms.asm.model import ActionStructureModel, ASMSizes
from spin_rl.algorithms.asm.pretraining import ASMConfig, ASMPretraining
from spin_rl.algorithms.objectives import IQLSettings
from spin_rl.algorithms.policies.cached import CachedPolicy
from spin_rl.algorithms.policies.factored import FactoredPolicy
from spin_rl.algorithms.policies.slots import SlotPolicy
from spin_rl.algorithms.presets import get_preset
from spin_rl.algorithms.published.imports import store_imported_asm, write_imported_policy
from spin_rl.algorithms.published.interchange import export_asm, export_policy, import_asm, import_policy
from spin_rl.algorithms.published.state_dicts import read_state_dict, write_state_dict
from spin_rl.algorithms.training.agent import AgentSpec, OfflineAgent
from spin_rl.algorithms.training.checkpoints import load_policy
from spin_rl.envs import get_task
from spin_rl.errors import UserError
from spin_rl.platform.asm_store.store import ASMStore, asm_root

SIZES = ASMSizes(width=16, heads=2, layers=3, state_tokens=2, head_width=8)
SPACES = [(5, (3, 2, 4)), (1, (2,)), (7, (3, 3))]


class MAB(nn.Module):
    """One block, with norms and projections of its own for queries and for keys and values."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln_q, self.ln_kv, self.ffn_ln = (nn.LayerNorm(width) for _ in range(3))
        self.fc_q, self.fc_k, self.fc_v, self.out_proj = (nn.Linear(width, width) for _ in range(4))
        self.ffn = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * width, width), nn.Dropout(0.1)
        )

    def forward(self, x):
        query = self.fc_q(self.ln_q(x))
        key, value = self.fc_k(self.ln_kv(x)), self.fc_v(self.ln_kv(x))
        size = query.shape[-1] // self.heads
        mixed = []
        for head in range(self.heads):
            mine = slice(head * size, (head + 1) * size)
            weights = torch.softmax(query[..., mine] @ key[..., mine].transpose(1, 2) / size**0.5, -1)
            mixed.append(weights @ value[..., mine])
        x = x + self.out_proj(torch.cat(mixed, -1))
        return x + self.ffn(self.ffn_ln(x))


class Wrapped(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.mab = MAB(width, heads)

    def forward(self, x):
        return self.mab(x)


def encoder(observation, sizes):
    return nn.Sequential(
        nn.Linear(observation, 2 * sizes.width), nn.GELU(), nn.Linear(2 * sizes.width, sizes.state_tokens * sizes.width)
    )


def heads(nvec, sizes):
    return nn.ModuleList(
        nn.Sequential(
            nn.Linear(sizes.width, sizes.head_width), nn.GELU(), nn.Dropout(0.1), nn.Linear(sizes.head_width, choices)
        )
        for choices in nvec
    )


class Core(nn.Module):
    def __init__(self, observation, nvec, sizes):
        super().__init__()
        self.state_encoder = encoder(observation, sizes)
        self.sub_action_value_embeddings = nn.ModuleList(nn.Embedding(choices + 1, sizes.width) for choices in nvec)
        self.transformer_blocks = nn.ModuleList(Wrapped(sizes.width, sizes.heads) for _ in range(sizes.layers))


class PlainASM(nn.Module):
    def __init__(self, observation, nvec, sizes):
        super().__init__()
        self.width = sizes.width
        self.core_transformer = Core(observation, nvec, sizes)
        self.prediction_heads = heads(nvec, sizes)

    def forward(self, observation, tokens):
        core = self.core_transformer
        state = core.state_encoder(observation).view(len(observation), -1, self.width)
        embedded = [table(tokens[:, i]) for i, table in enumerate(core.sub_action_value_embeddings)]
        x = torch.cat([state, torch.stack(embedded, 1)], 1)
        for block in core.transformer_blocks:
            x = block(x)
        return [head(x[:, state.shape[1] + i]) for i, head in enumerate(self.prediction_heads)]


class PlainPolicy(nn.Module):
    def __init__(self, observation, nvec, sizes):
        super().__init__()
        self.width = sizes.width
        self.state_encoder = encoder(observation, sizes)
        self.slot_embeddings = nn.Parameter(torch.randn(len(nvec), sizes.width))
        self.blocks = nn.ModuleList(Wrapped(sizes.width, sizes.heads) for _ in range(sizes.layers))
        self.heads = heads(nvec, sizes)

    def forward(self, observation):
        state = self.state_encoder(observation).view(len(observation), -1, self.width)
        x = torch.cat([state, self.slot_embeddings.expand(len(observation), -1, -1)], 1)
        for block in self.blocks:
            x = block(x)
        return [head(x[:, state.shape[1] + i]) for i, head in enumerate(self.heads)]


@pytest.fixture(autouse=True)
def _same_weights_every_time() -> None:
    torch.manual_seed(0)


def scrambled(module: nn.Module) -> nn.Module:
    """Every parameter random, those of the norms too, which start as ones and zeros."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return module.eval()


def inputs(observation: int, nvec: tuple[int, ...], batch: int = 9):
    generator = torch.Generator().manual_seed(1)
    tokens = torch.stack([torch.randint(n + 1, (batch,), generator=generator) for n in nvec], 1)
    return torch.randn(batch, observation, generator=generator), tokens


def assert_same(ours: torch.Tensor, plain: list[torch.Tensor]) -> None:
    assert max(float(logits.abs().max()) for logits in plain) > 0.5
    for index, logits in enumerate(plain):
        torch.testing.assert_close(ours[:, index, : logits.shape[1]], logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("observation", "nvec"), SPACES)
@torch.no_grad()
def test_a_published_model_computes_the_same_here_and_ours_there(observation, nvec):
    plain = scrambled(PlainASM(observation, nvec, SIZES))
    seen = inputs(observation, nvec)
    model = import_asm(plain.state_dict(), heads=2)
    assert (model.observation_size, model.nvec, model.sizes) == (observation, nvec, SIZES)
    assert_same(model(*seen), plain(*seen))

    ours = scrambled(ActionStructureModel(observation, nvec, SIZES))
    there = PlainASM(observation, nvec, SIZES).eval()
    there.load_state_dict(export_asm(ours))
    assert_same(ours(*seen), there(*seen))


@pytest.mark.parametrize(("observation", "nvec"), SPACES)
@torch.no_grad()
def test_a_published_policy_computes_the_same_here_and_ours_there(observation, nvec):
    plain = scrambled(PlainPolicy(observation, nvec, SIZES))
    seen, _ = inputs(observation, nvec)
    policy, shape = import_policy(plain.state_dict(), heads=2)
    assert shape == (observation, nvec, SIZES)
    assert_same(policy.logits(seen), plain(seen))
    batched = plain.state_dict() | {"slot_embeddings": plain.slot_embeddings[None]}
    assert torch.equal(import_policy(batched, heads=2)[0].logits(seen), policy.logits(seen))

    for ours in (scrambled(SlotPolicy(observation, nvec, SIZES)), scrambled(CachedPolicy(observation, nvec, SIZES))):
        there = PlainPolicy(observation, nvec, SIZES).eval()
        there.load_state_dict(export_policy(ours))
        assert_same(ours.logits(ours.features(seen)), there(seen))


def test_an_encoder_may_name_its_layers_as_it_likes():
    state = PlainASM(5, (3, 2), SIZES).state_dict()
    renamed = {name.replace("state_encoder.", "state_encoder.net."): value for name, value in reversed(state.items())}
    expected, model = import_asm(state, heads=2), import_asm(renamed, heads=2)
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name])


def test_a_state_dict_of_another_layout_is_refused_naming_both_sides():
    asm = PlainASM(5, (3, 2, 4), SIZES).state_dict()
    first = "core_transformer.transformer_blocks.0.mab"

    def without(name):
        return {key: value for key, value in asm.items() if key != name}

    with pytest.raises(UserError, match=rf"lacks {first}.ln_q.bias") as error:
        import_asm(without(f"{first}.ln_q.bias") | {"positions": torch.zeros(3)}, heads=2)
    assert "has no place for positions" in str(error.value)
    with pytest.raises(UserError, match=r"ffn.0.weight \(7, 16\) instead of \(32, 16\)"):
        import_asm(asm | {f"{first}.ffn.0.weight": torch.zeros(7, 16)}, heads=2)
    with pytest.raises(UserError, match=r"embeddings.1.weight \(3, 15\) instead of \(3, 16\)"):
        import_asm(asm | {"core_transformer.sub_action_value_embeddings.1.weight": torch.zeros(3, 15)}, heads=2)
    with pytest.raises(UserError, match=r"lacks prediction_heads.2.3.weight; it holds"):
        import_asm(without("prediction_heads.2.3.weight"), heads=2)
    with pytest.raises(UserError, match=r"a policy .* lacks .*; it holds core_transformer"):
        import_policy(asm)
    with pytest.raises(UserError, match=r"an action structure model .* lacks .*; it holds slot_embeddings"):
        import_asm(PlainPolicy(5, (3, 2, 4), SIZES).state_dict())
    with pytest.raises(UserError, match=r"3 attention heads do not divide .* 16"):
        import_asm(asm, heads=3)
    with pytest.raises(UserError, match=r"not finite in prediction_heads.0.0.bias"):
        import_asm(asm | {"prediction_heads.0.0.bias": torch.full((8,), torch.nan)}, heads=2)
    with pytest.raises(UserError, match="it holds nothing"):
        import_asm({})
    with pytest.raises(UserError, match="FactoredPolicy has none"):
        export_policy(FactoredPolicy(5, (3, 2), 8))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_file_holds_what_was_written_and_is_not_overwritten(tmp_path, suffix):
    tensors = export_asm(ActionStructureModel(5, (3, 2), replace(SIZES, layers=1)))
    path = tmp_path / f"model{suffix}"
    write_state_dict(tensors, path)
    read = read_state_dict(path)
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], value) for name, value in tensors.items())
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    with pytest.raises(UserError, match="exists already"):
        write_state_dict(tensors, path)


def test_a_file_is_read_without_running_it(tmp_path):
    marker = tmp_path / "ran"
    state = {"weight": torch.zeros(2)}

    def saved(content, name="file.pt"):
        torch.save(content, tmp_path / name)
        return tmp_path / name

    evil = type("Evil", (), {"__reduce__": lambda self: (Path.touch, (marker,))})
    with pytest.raises(UserError, match="cannot be read as tensors by name"):
        read_state_dict(saved({**state, "evil": evil()}))
    assert not marker.exists()
    assert read_state_dict(saved({"epoch": 3, "model": state})).keys() == {"weight"}
    with pytest.raises(UserError, match="the entries actor, critic, and not one state dict"):
        read_state_dict(saved({"actor": state, "critic": state}))
    with pytest.raises(UserError, match="holds a list"):
        read_state_dict(saved([1]))
    with pytest.raises(UserError, match="There is no file"):
        read_state_dict(tmp_path / "missing.pt")
    with pytest.raises(UserError, match="ends in"):
        read_state_dict(tmp_path / "model.bin")
    (tmp_path / "broken.safetensors").write_bytes(b"x" * 40)
    with pytest.raises(UserError, match="cannot be read"):
        read_state_dict(tmp_path / "broken.safetensors")
    save_file(state, tmp_path / "fine.safetensors")
    assert read_state_dict(tmp_path / "fine.safetensors").keys() == {"weight"}


def test_an_imported_model_lies_in_the_store_as_one_that_policies_start_from(toy, tmp_path):
    store = ASMStore(tmp_path)
    plain = scrambled(PlainASM(3, (3, 2, 4), SIZES))
    model = import_asm(plain.state_dict(), heads=2)
    stored = store_imported_asm(store, toy, model, origin="a file", epochs=3, seconds=12.5)
    assert (stored.task, stored.bins, stored.dataset_digest) == ("toy", 4, toy.meta.digest)
    steps_per_epoch = ASMPretraining(toy, ASMConfig(sizes=SIZES)).steps_per_epoch
    assert (stored.step, stored.epoch, stored.pretrain_seconds) == (3 * steps_per_epoch, 3.0, 12.5)
    assert store_imported_asm(store, toy, model, origin="a file", epochs=3) == stored
    assert store_imported_asm(store, toy, model, origin="another file", epochs=3).key != stored.key
    loaded = load_asm(Path(store.find(stored.key[:6]).path)).eval()
    seen = inputs(3, (3, 2, 4))
    with torch.no_grad():
        assert_same(loaded(*seen), plain(*seen))
    spec = AgentSpec("spin", 3, (3, 2, 4), replace(get_preset("tiny"), asm=SIZES), IQLSettings())
    policy = OfflineAgent(spec, asm=loaded).policy
    assert isinstance(policy, SlotPolicy)
    assert torch.equal(
        policy.trunk.blocks[0].out.weight, plain.core_transformer.transformer_blocks[0].mab.out_proj.weight
    )
    with pytest.raises(UserError, match=r"5 observation values .* 2 x 3 choices, .* has 3 and \(3, 2, 4\)"):
        store_imported_asm(store, toy, import_asm(PlainASM(5, (3, 3), SIZES).state_dict(), heads=2), origin="")


def test_an_imported_policy_is_a_checkpoint_that_can_be_evaluated_and_exported(toy, tmp_path):
    plain = scrambled(PlainPolicy(3, (3, 2, 4), SIZES))
    policy, shape = import_policy(plain.state_dict(), heads=2)
    folder = tmp_path / "policies" / "one"
    write_imported_policy(folder, get_task("toy", 4), policy, shape, algorithm="spin", origin="a file")
    loaded = load_policy(folder)
    seen, _ = inputs(3, (3, 2, 4))
    with torch.no_grad():
        assert_same(loaded.logits(seen), plain(seen))
        there = PlainPolicy(3, (3, 2, 4), SIZES).eval()
        there.load_state_dict(export_policy(loaded))
        torch.testing.assert_close(there(seen), plain(seen), rtol=0, atol=1e-5)
    other, shape = import_policy(PlainPolicy(4, (3, 2, 4), SIZES).state_dict(), heads=2)
    with pytest.raises(UserError, match="4 observation values"):
        write_imported_policy(tmp_path / "two", get_task("toy", 4), other, shape, algorithm="spin", origin="")
    assert not (tmp_path / "two").exists()


def test_models_travel_from_one_storage_to_another_by_command(toy, asm_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("spin_rl.commands.asm.open_dataset", lambda *_, **__: toy)
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(Path(asm_checkpoint.path).parents[3], first / "asm")
    command = partial(CliRunner().invoke, cli.app, catch_exceptions=False)

    def run(arguments):
        return command(["asm", *arguments])

    file = tmp_path / "model.pt"
    assert run(["export", asm_checkpoint.key, str(file), "--storage", str(first)]).exit_code == 0
    where = ["--storage", str(second), "--bins", "4", "--heads", "2"]
    assert run(["import", str(file), "toy", "random", "--steps", "30", *where]).exit_code == 0
    (arrived,) = ASMStore(asm_root(second)).all()
    sent = load_asm(Path(asm_checkpoint.path)).eval()
    seen = inputs(3, (3, 2, 4))
    with torch.no_grad():
        torch.testing.assert_close(load_asm(Path(arrived.path)).eval()(*seen), sent(*seen), rtol=0, atol=1e-5)
    assert arrived.full_loss == pytest.approx(asm_checkpoint.full_loss, abs=1e-4)
    assert arrived.key[:8] in run(["list", "--storage", str(second)]).stdout
    assert "imported" in run(["show", f"{arrived.key}/30", "--storage", str(second)]).stdout
    with pytest.raises(UserError, match="spin-rl asm list"):
        run(["show", f"{arrived.key}/31", "--storage", str(second)])
