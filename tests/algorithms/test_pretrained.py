"""Models on demand: found, extended, and never half of one."""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from spin_rl.algorithms.asm.pretraining import ASMPretraining
from spin_rl.algorithms.pretraining.checkpoints import ensure_pretrained
from spin_rl.errors import UserError
from spin_rl.platform.asm_store.store import ASMStore, read_checkpoint
from tests.algorithms.toy_agent import assert_same_bits

ROOT = Path(__file__).parents[2]


def weights(checkpoint):
    return load_file(Path(checkpoint.path) / "model.safetensors")


def test_what_is_there_is_found_and_the_nearest_earlier_one_is_extended(toy, asm_config, tmp_path, monkeypatch):
    trained, made, updates = [], [], []
    update = ASMPretraining._update
    monkeypatch.setattr(ASMPretraining, "_update", lambda run, rows: updates.append(1) or update(run, rows))

    def ensure(root, steps):
        trained.clear(), made.clear(), updates.clear()
        return ensure_pretrained(
            ASMStore(root), toy, asm_config, steps,
            on_step=lambda step, loss: trained.append(step), on_checkpoint=lambda new: made.append(new.step),
        )  # fmt: skip

    (straight,) = ensure(tmp_path / "straight", [12])
    first = ensure(tmp_path / "cut", [5, 0])
    assert [checkpoint.step for checkpoint in first] == [5, 0]
    assert made == [0, 5]
    last, middle = ensure(tmp_path / "cut", [12, 8])
    assert (made, trained) == ([8, 12], [8, 12])
    assert len(updates) == 7  # from step 5 on
    assert_same_bits(weights(last), weights(straight))
    assert last.pretrain_seconds > middle.pretrain_seconds > first[0].pretrain_seconds > 0  # all that it ever took
    assert (last.epoch, last.validation_loss) == (straight.epoch, straight.validation_loss)

    again = ensure(tmp_path / "cut", [0, 5, 8, 12])
    assert (made, trained) == ([], [])
    assert [again[1], again[0], again[3], again[2]] == [*first, last, middle]
    assert read_checkpoint(Path(last.path)) == last


def test_every_setting_has_a_place_of_its_own(toy, asm_config, tmp_path):
    store = ASMStore(tmp_path)
    variants = [asm_config, replace(asm_config, seed=1), replace(asm_config, learning_rate=1e-3)]
    paths = {ensure_pretrained(store, toy, variant, [0])[0].path for variant in variants}
    metadata = replace(toy.metadata, digest="another")
    paths.add(ensure_pretrained(store, replace(toy, metadata=metadata), asm_config, [0])[0].path)
    assert len(paths) == 4
    identities = [json.loads(path.read_text()) for path in tmp_path.glob("*/*/*/identity.json")]
    assert sorted(identity["seed"] for identity in identities) == [0, 0, 0, 1]


def test_a_step_before_the_first_is_refused(toy, asm_config, tmp_path):
    with pytest.raises(UserError, match="numbers from 0 on"):
        ensure_pretrained(ASMStore(tmp_path), toy, asm_config, [-1])


def test_a_checkpoint_that_was_cut_off_is_not_taken_for_a_whole_one(toy, asm_config, tmp_path):
    """A process is killed between the weights and the rest of its second checkpoint."""
    script = """
import os, sys, signal
from pathlib import Path
from unittest import mock
import torch
from spin_rl.algorithms.asm import pretraining
from spin_rl.algorithms.presets import get_preset
from spin_rl.algorithms.pretraining.checkpoints import ensure_pretrained
from spin_rl.algorithms.asm.pretraining import ASMPretraining
from spin_rl.platform.asm_store.store import ASMStore
from spin_rl.platform.datasets import open_dataset
torch.set_num_threads(1)
save = pretraining.save_asm
def save_and_die(model, folder):
    save(model, folder)
    if "making-9" in folder.name:
        os.kill(os.getpid(), signal.SIGKILL)
pretraining.save_asm = save_and_die
toy = open_dataset("toy", "random", bins=4, root=sys.argv[1])
config = pretraining.ASMConfig(sizes=get_preset("tiny").asm, batch_size=32)
ensure_pretrained(ASMStore(Path(sys.argv[2])), toy, config, [4, 9])
"""
    (straight,) = ensure_pretrained(ASMStore(tmp_path / "straight"), toy, asm_config, [9])
    data = toy_root(toy)
    run = subprocess.run([sys.executable, "-c", script, data, tmp_path / "killed"], cwd=ROOT, capture_output=True)
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()
    store = ASMStore(tmp_path / "killed")
    folder = next((tmp_path / "killed").glob("*/*/*/identity.json")).parent
    assert (next(folder.glob(".making-9-*")) / "model.safetensors").exists()
    assert list(store.checkpoints(folder)) == [4]
    steps = []
    (resumed,) = ensure_pretrained(store, toy, asm_config, [9], on_step=lambda step, loss: steps.append(step))
    assert steps == [9]
    assert_same_bits(weights(resumed), weights(straight))
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["step-000000004", "step-000000009"]


def toy_root(toy) -> str:
    """Where the session's toy dataset lies: its Arrow copy is mapped from there."""
    mapped = Path("/proc/self/maps").read_text()
    line = next(line for line in mapped.splitlines() if f"/arrow/{toy.metadata.digest}/" in line)
    return line.split(maxsplit=5)[5].split("/.cache/")[0]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"step": 3}'])
def test_a_damaged_record_is_made_anew(toy, asm_config, asm_checkpoint, tmp_path, damage):
    folder = Path(asm_checkpoint.path).parent
    copy = tmp_path / folder.relative_to(folder.parents[2])
    shutil.copytree(folder, copy)
    (copy / "step-000000030/checkpoint.json").write_text(damage)
    (again,) = ensure_pretrained(ASMStore(tmp_path), toy, asm_config, [30])
    assert_same_bits(weights(again), weights(asm_checkpoint))
    assert read_checkpoint(Path(again.path)).step == 30


def test_a_full_disk_is_said_and_leaves_no_checkpoint(toy, asm_config, tmp_path, monkeypatch):
    import resource

    store = ASMStore(tmp_path)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(UserError, match=r"checkpoint .*step-000000002 could not be written .*free some space"):
            ensure_pretrained(store, toy, asm_config, [2])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.glob("*/*/*/step-*"))
    assert not list(tmp_path.glob("*/*/*/.making-*"))
    assert ensure_pretrained(store, toy, asm_config, [2])[0].step == 2


@pytest.mark.parametrize("content", [None, "{", '{"step": 3}'])
def test_a_folder_that_is_no_checkpoint_says_the_command(tmp_path, content):
    if content is not None:
        (tmp_path / "checkpoint.json").write_text(content)
    with pytest.raises(
        UserError, match=rf"{tmp_path} is not a checkpoint of .*'spin-rl pretrain TASK LEVEL' makes one"
    ):
        read_checkpoint(tmp_path)
