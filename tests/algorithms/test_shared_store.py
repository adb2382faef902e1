"""One store, several clusters: nothing trained twice, nobody's death loses much, and no damage is built upon.

The clusters are processes that share nothing but the folder: each believes to be on a machine of its own, and the file
system knows no locks.
"""

import fcntl
import itertools
import json
import logging
import os
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from spin_rl.algorithms.asm.files import load_asm
from spin_rl.algorithms.asm.pretraining import ASMConfig, ASMPretraining
from spin_rl.algorithms.presets import get_preset
from spin_rl.algorithms.pretraining import checkpoints as pretrained
from spin_rl.algorithms.pretraining.checkpoints import ensure_pretrained, missing_steps
from spin_rl.errors import UserError
from spin_rl.platform.asm_store.extension import extending
from spin_rl.platform.asm_store.store import ASMStore, asm_root, read_checkpoint
from spin_rl.platform.common import leases
from spin_rl.platform.common.leases import LeaseLostError
from spin_rl.platform.datasets import open_dataset
from spin_rl.platform.datasets.collect import make_dataset
from tests.algorithms.toy_agent import assert_same_bits
from tests.toy import toy_task

CONFIG = ASMConfig(sizes=get_preset("tiny").asm, batch_size=32)
FORKS = get_context("forkserver")
FORKS.set_forkserver_preload(["spin_rl.algorithms.pretraining.checkpoints"])


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    root = tmp_path_factory.mktemp("data")
    make_dataset(toy_task(), "random", 600, root=root, workers=0)
    return str(root)


@pytest.fixture(scope="module")
def straight(data, tmp_path_factory) -> dict[int, Path]:
    """Checkpoints of a pretraining that nobody disturbed."""
    steps = [0, 10, 20, 30, 60, 120]
    made = ensure_pretrained(ASMStore(tmp_path_factory.mktemp("straight")), open_toy(data), CONFIG, steps)
    return {checkpoint.step: Path(checkpoint.path) for checkpoint in made}


def open_toy(data):
    return open_dataset("toy", "random", bins=4, root=data)


def assert_as_made_straight(path: Path, straight: dict[int, Path]) -> None:
    step = int(path.name.rsplit("-", 1)[1])
    for name in ("model.safetensors", "training.safetensors"):
        assert_same_bits(load_file(path / name), load_file(straight[step] / name))


class Cluster:
    """A process of a cluster of its own that asks the store for checkpoints; it waits where there is a trap."""

    def __init__(self, folder: Path, data: str, lasts: float, steps: list[int], *traps: int) -> None:
        self.name = f"{next(_NUMBERS)}"
        self.folder = folder
        self.process = FORKS.Process(target=_ask, args=(self.name, folder, data, lasts, steps, traps))
        self.process.start()

    def wait_at(self, trap: int) -> None:
        self._wait(lambda: (self.folder / f"{self.name}.at-{trap}").exists())

    def let_go(self, trap: int) -> None:
        (self.folder / f"{self.name}.go-{trap}").touch()

    def wait_until_it_waits(self) -> None:
        self._wait(lambda: "Waiting for process" in self.log())

    def log(self) -> str:
        path = self.folder / f"{self.name}.log"
        return path.read_text() if path.exists() else ""

    def result(self) -> dict[str, Any]:
        """Paths of the checkpoints that it got, and the updates that it made for them."""
        self.process.join(200)
        assert self.process.exitcode == 0, self.log()
        return json.loads((self.folder / f"{self.name}.json").read_text())

    def _wait(self, what: Callable[[], bool]) -> None:
        end = time.monotonic() + 200
        while not what():
            assert self.process.is_alive(), self.log()
            assert time.monotonic() < end, self.log()
            time.sleep(0.01)


_NUMBERS = itertools.count()


def _ask(name: str, folder: Path, data: str, lasts: float, steps: list[int], traps: tuple[int, ...]) -> None:
    def no_locks(*_):
        raise OSError(37, "No locks available")

    fcntl.flock = fcntl.lockf = no_locks
    leases.machine_id = lambda: name
    leases.LASTS = lasts
    pretrained._KEEP_EVERY = pretrained._CHECK_EVERY = 0.0
    logging.basicConfig(filename=folder / f"{name}.log", force=True)
    torch.set_num_threads(1)
    updates: list[int] = []
    update = ASMPretraining._update
    ASMPretraining._update = lambda run, rows: updates.append(1) or update(run, rows)

    def on_step(step, loss):
        if step in traps:
            (folder / f"{name}.at-{step}").touch()
            while not (folder / f"{name}.go-{step}").exists():
                time.sleep(0.01)

    made = ensure_pretrained(ASMStore(asm_root(folder)), open_toy(data), CONFIG, steps, on_step=on_step)
    (folder / f"{name}.json").write_text(json.dumps({"paths": [one.path for one in made], "updates": len(updates)}))


@pytest.fixture
def cluster(tmp_path, data):
    """Starts processes that share the folder ``tmp_path``."""
    started: list[Cluster] = []

    def start(steps, *traps, lasts=1.0):
        started.append(Cluster(tmp_path, data, lasts, steps, *traps))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()


@pytest.mark.integration
def test_who_comes_second_waits_for_what_it_needs_and_trains_the_difference(cluster, straight):
    first = cluster([10, 30, 60], 10, 60, lasts=60.0)  # nobody dies here, however slow the machine
    first.wait_at(10)
    second, third = cluster([30]), cluster([30, 120])
    second.wait_until_it_waits()
    third.wait_until_it_waits()
    first.let_go(10)
    assert second.result()["updates"] == 0
    first.wait_at(60)  # the second had not to wait for all that the first makes
    first.let_go(60)
    assert first.result()["updates"] == 60
    assert third.result()["updates"] == 60
    for path in [*first.result()["paths"], *second.result()["paths"], *third.result()["paths"]]:
        assert_as_made_straight(Path(path), straight)


@pytest.mark.integration
def test_a_killed_holder_is_replaced_and_the_next_goes_on_from_what_it_kept(cluster, straight):
    first = cluster([120], 50)
    first.wait_at(50)
    second = cluster([120])
    second.wait_until_it_waits()
    os.kill(first.process.pid, signal.SIGKILL)
    (path,) = second.result()["paths"]
    assert second.result()["updates"] == 70
    assert "has not renewed it" in second.log()
    assert_as_made_straight(Path(path), straight)
    assert [found.name for found in Path(path).parent.iterdir() if found.is_dir()] == [Path(path).name]


@pytest.mark.integration
def test_a_holder_that_was_suspended_stops_and_finds_what_its_successor_made(cluster, straight):
    first = cluster([120], 50)
    first.wait_at(50)
    os.kill(first.process.pid, signal.SIGSTOP)
    second = cluster([120])
    (path,) = second.result()["paths"]
    written = {file: file.stat().st_mtime_ns for file in Path(path).iterdir()}
    first.let_go(50)
    os.kill(first.process.pid, signal.SIGCONT)
    assert first.result() == {"paths": [path], "updates": 100}  # it asks every 50 steps here
    assert "was taken over" in first.log()
    assert {file: file.stat().st_mtime_ns for file in Path(path).iterdir()} == written
    assert_as_made_straight(Path(path), straight)


def test_who_lost_the_lease_writes_nothing(tmp_path, straight):
    record = read_checkpoint(straight[10])
    with extending(tmp_path / "model", {}) as extension:
        (tmp_path / "model/.lease-00000002").touch()
        for write in (partial(extension.add, record), partial(extension.keep_progress, 10)):
            with pytest.raises(LeaseLostError):
                write(lambda folder: (folder / "model.json").write_text("{}"))
    assert not [path for path in (tmp_path / "model").iterdir() if path.is_dir()]


@pytest.fixture
def stored(data, straight, tmp_path) -> ASMStore:
    """A store of one's own with what was made straight."""
    folder = straight[0].parent
    shutil.copytree(folder, tmp_path / "asm" / folder.relative_to(folder.parents[2]))
    return ASMStore(asm_root(tmp_path))


def place(store: ASMStore, straight: dict[int, Path], step: int) -> Path:
    return store.root / straight[step].relative_to(straight[step].parents[3])


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("name", ["model.safetensors", "training.safetensors", "model.json", "checkpoint.json"])
def test_a_damaged_checkpoint_is_moved_aside_and_made_again(stored, straight, data, caplog, name):
    damaged = place(stored, straight, 20)
    flip_a_bit(damaged / name)
    assert missing_steps(stored, open_toy(data), CONFIG, [10, 20]) == [20]
    steps = []
    ensure_pretrained(stored, open_toy(data), CONFIG, [20], on_step=lambda step, loss: steps.append(step))
    assert steps == [20]
    assert_as_made_straight(damaged, straight)
    (aside,) = damaged.parent.glob("damaged-000000020-*")
    assert f"{damaged} is damaged ({name} has digest" in caplog.text
    assert aside.name in caplog.text
    assert missing_steps(stored, open_toy(data), CONFIG, list(straight)) == []


def test_nothing_is_built_on_a_damaged_checkpoint_and_it_is_made_again_on_the_way(stored, straight, data):
    for step in (30, 60):
        flip_a_bit(place(stored, straight, step) / "training.safetensors")
    shutil.rmtree(place(stored, straight, 120))
    made = []
    ensure_pretrained(
        stored, open_toy(data), CONFIG, [120], on_checkpoint=lambda checkpoint: made.append(checkpoint.step)
    )
    assert made == [30, 60, 120]
    for step in (30, 60, 120):
        assert_as_made_straight(place(stored, straight, step), straight)


def test_a_damaged_model_is_not_trained_on(stored, straight):
    flip_a_bit(place(stored, straight, 20) / "model.safetensors")
    with pytest.raises(UserError, match=r"step-000000020 is damaged .*'spin-rl asm verify'"):
        load_asm(place(stored, straight, 20))


def test_a_checkpoint_without_digests_counts_as_damaged(stored, straight, data):
    (place(stored, straight, 20) / "SHA256SUMS").unlink()
    assert missing_steps(stored, open_toy(data), CONFIG, list(straight)) == [20]
    ensure_pretrained(stored, open_toy(data), CONFIG, [20])
    assert_as_made_straight(place(stored, straight, 20), straight)


def test_object_stores_are_refused():
    with pytest.raises(UserError, match=r"folder that all hosts mount, not at s3://bucket/results"):
        asm_root(Path("s3://bucket/results").absolute())
