"""Looking after the store by command: what is damaged is moved aside, what is needed stays, the rest can go."""

import json
import os
import shutil
import time
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spin_rl import cli
from spin_rl.algorithms.asm import files as asm_files
from spin_rl.algorithms.asm import pretraining
from spin_rl.algorithms.asm.masking import Masking
from spin_rl.algorithms.pretraining.checkpoints import ensure_pretrained
from spin_rl.errors import UserError
from spin_rl.platform.asm_store.store import ASMStore, asm_root
from spin_rl.platform.common.leases import Lease

DAY = 24 * 3600


@pytest.fixture
def storage(toy, asm_config, tmp_path) -> Path:
    ensure_pretrained(ASMStore(asm_root(tmp_path)), toy, asm_config, [0, 2, 4])
    return tmp_path


@pytest.fixture
def asm(storage):
    run = CliRunner(env={"COLUMNS": "200"}).invoke
    return lambda *arguments: run(cli.app, ["asm", *arguments, "--storage", str(storage)], catch_exceptions=False)


def folder_of(storage: Path) -> Path:
    return next(storage.glob("asm/*/*/*/identity.json")).parent


def folders(storage: Path) -> list[str]:
    return sorted(path.name for path in folder_of(storage).iterdir() if path.is_dir())


def make_older(folder: Path, days: float) -> None:
    then = time.time() - days * DAY
    for path in [*folder.iterdir(), folder]:
        os.utime(path, (then, then))


def test_verify_moves_what_is_damaged_aside(storage, asm):
    assert asm("verify").exit_code == 0
    damaged = folder_of(storage) / "step-000000002"
    content = (damaged / "training.safetensors").read_bytes()
    (damaged / "training.safetensors").write_bytes(content[:-1] + b"?")
    with Lease(folder_of(storage) / ".lease") as lease:
        assert lease.try_acquire()
        held = asm("verify")
    assert held.exit_code == 1
    assert "is being extended, so it stays" in held.stdout
    found = asm("verify")
    assert found.exit_code == 1
    assert f"damaged {damaged}: training.safetensors has digest" in found.stdout
    assert "3 checkpoints: 2 intact, 1 damaged." in found.stdout
    assert [name.split("-")[:2] for name in folders(storage)] == [
        ["damaged", "000000002"],
        ["step", "000000000"],
        ["step", "000000004"],
    ]
    assert asm("verify").exit_code == 0
    assert asm("verify", folder_of(storage).name[:6] + "/4").exit_code == 0


def test_gc_keeps_what_sweeps_refer_to_and_what_was_used_lately(storage, asm, toy, asm_config):
    model = folder_of(storage)
    trial = storage / "a-sweep/trials/1/trial.json"
    trial.parent.mkdir(parents=True)
    elsewhere = f"/moved/since/{model.parent.parent.name}/{model.parent.name}/{model.name}/step-000000004"
    trial.write_text(json.dumps({"params": {"asm": elsewhere}}))
    shutil.copytree(model / "step-000000000", model / "damaged-000000003-0")
    for folder in model.glob("*-*"):
        if folder.is_dir():
            make_older(folder, 50)
    dry = asm("gc")
    assert "Kept: 1 that sweeps refer to, 0 made or used" in dry.stdout
    assert "To free 3 folders" in dry.stdout
    assert len(folders(storage)) == 4

    ensure_pretrained(ASMStore(asm_root(storage)), toy, asm_config, [2])  # somebody uses one that is old
    with Lease(model / ".lease") as lease:
        assert lease.try_acquire()
        assert "2 belong to models that are being extended" in asm("gc", "--delete").stdout
    assert len(folders(storage)) == 4
    assert "Freed 2 folders" in asm("gc", "--delete").stdout
    assert folders(storage) == ["step-000000002", "step-000000004"]
    assert "Nothing to free" in asm("gc").stdout
    assert "Freed 1 folders" in asm("gc", "--delete", "--days", "0").stdout
    assert folders(storage) == ["step-000000004"]


def test_gc_frees_nothing_where_it_cannot_tell_what_is_needed(storage, asm):
    trial = storage / "a-sweep/trials/1/trial.json"
    trial.parent.mkdir(parents=True)
    trial.write_bytes(b"\xff\xff")
    with pytest.raises(UserError, match=rf"{trial} cannot be read"):
        asm("gc", "--days", "0", "--delete")
    assert len(folders(storage)) == 3


def test_pretrain_takes_the_settings_of_every_objective(toy, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("spin_rl.api.pretraining.open_dataset", lambda *names, **options: opened.append(options) or toy)
    run = partial(CliRunner().invoke, cli.app, catch_exceptions=False)
    common = ["pretrain", "toy", "random", "--preset", "tiny", "--steps", "1", "--version", "7", "--storage"]
    options = {
        "mam": ["--masking", "fixed", "--masking-rate", "0.3", "--masking-split", "0.5", "0.2"],
        "vam": ["--kl-weight", "0.5", "--latent-width", "4"],
        "cam": ["--temperature", "0.2", "--fully-masked", "0.4"],
    }
    for objective, given in options.items():
        done = run([*common, str(tmp_path / objective), "--asm-objective", objective, *given])
        assert done.exit_code == 0
        assert "step-000000001" in done.stdout.replace("\n", "")
    assert [one["version"] for one in opened] == [7, 7, 7]
    found = {name: json.loads((folder_of(tmp_path / name) / "identity.json").read_text()) for name in options}
    assert found["mam"]["masking"] == {**vars(Masking(0.3, 0.5, 0.2))}
    assert (found["vam"]["kl_weight"], found["vam"]["latent_width"]) == (0.5, 4)
    assert (found["cam"]["temperature"], found["cam"]["masking"]["fully_masked"]) == (0.2, 0.4)
    assert found["cam"]["masking"]["variable"]
    # without options the address is that of the preset, which sweeps have too
    assert run([*common, str(tmp_path / "plain")]).exit_code == 0
    sizes = asm_files.read_shape(folder_of(tmp_path / "plain") / "step-000000001").sizes
    config = pretraining.ASMConfig(sizes=sizes, masking=Masking(variable=True), precision="bfloat16")
    expected = {"dataset": toy.meta.digest, **config.identity()}
    assert json.loads((folder_of(tmp_path / "plain") / "identity.json").read_text()) == json.loads(json.dumps(expected))


def test_a_reference_by_a_relative_path_gives_an_absolute_one(storage, monkeypatch):
    monkeypatch.chdir(folder_of(storage))
    found = ASMStore(asm_root(storage)).find("step-000000002")
    assert found.path == str(folder_of(storage) / "step-000000002")
