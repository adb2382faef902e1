"""Two Ray clusters on one storage: what one pretrains the other waits for, and takes over where it died."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from spin_rl.platform.results.files import read_sweep
from tests.trial_numbers import trial_numbers

PATIENCE = 400


def start(storage: Path, name: str) -> subprocess.Popen:
    """A sweep with a Ray of its own."""
    sweep = ["sweep", "pretraining-length", "--tiny", "--seeds", "0", "--set", "asm_steps=0,1500", "--name", name]
    command = [sys.executable, "-m", "spin_rl", *sweep]
    with (storage / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            [*command, "--storage", str(storage), "--root", str(storage / "data")],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def kill(process: subprocess.Popen) -> None:
    """kill -9 of a driver with its whole Ray."""
    for each in (*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)):
        try:
            os.kill(each.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


def wait_for_checkpoint(storage: Path, name: str, process: subprocess.Popen) -> None:
    """Until the store has something unfinished or finished."""
    until = time.monotonic() + PATIENCE
    while not [path for path in storage.glob("asm/*/*/*/*") if path.is_dir()]:
        assert process.poll() is None, (storage / f"{name}.log").read_text()[-3000:]
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.integration
@pytest.mark.timeout(900)
def test_two_clusters_share_a_store_and_one_may_die(tmp_path):
    first = start(tmp_path, "first")
    wait_for_checkpoint(tmp_path, "first", first)
    second = start(tmp_path, "second")
    while (tmp_path / "second" / "sweep.json").is_file() is False:
        assert second.poll() is None, (tmp_path / "second.log").read_text()[-3000:]
        time.sleep(0.02)
    kill(first)
    assert not list(tmp_path.glob("asm/*/*/*/step-*1500"))  # it died at work
    first = start(tmp_path, "first")
    for process, name in ((second, "second"), (first, "first")):
        assert process.wait(PATIENCE) == 0, (tmp_path / f"{name}.log").read_text()[-3000:]
    seconds = ("time/pretrain_seconds",)  # which differ wherever pretraining was done again
    results = [
        trial_numbers(read_sweep(tmp_path / name), "algorithm", "asm_steps", also=seconds)
        for name in ("first", "second")
    ]
    assert results[0] == results[1]
    assert len(results[0]) == 3
