"""A sweep of one's own through everything that can end it: it ends with the numbers of an undisturbed one."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from spin_rl.platform.results.files import read_sweep
from tests.trial_numbers import trial_numbers

DOCS = Path(__file__).parents[2] / "docs" / "sweeps.md"
NAME = "killed"


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen]]:
    """Starts ``spin-rl sweep`` with a storage and arguments; nothing that it started outlives the test."""
    started = []

    def start(storage: Path, *arguments: str) -> subprocess.Popen:
        storage.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "spin_rl", "sweep", *arguments, "--storage", str(storage)]
        with (storage / "log").open("ab") as log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            below = psutil.Process(process.pid).children(recursive=True)
            for left in (process, *below):
                with suppress(psutil.NoSuchProcess):
                    left.kill()


def wait_for(what: Callable[[], bool], process: subprocess.Popen, storage: Path) -> None:
    until = time.monotonic() + 400
    while not what():
        assert process.poll() is None, (storage / "log").read_text()[-3000:]
        assert time.monotonic() < until
        time.sleep(0.02)


def lines(storage: Path) -> int:
    """Results that were reported so far."""
    return sum(len(path.read_bytes().splitlines()) for path in storage.glob(f"{NAME}/trials/*/metrics.jsonl"))


def in_the_middle(storage: Path) -> bool:
    """Whether some trials are finished and another has reported."""
    trials = {path.parent: json.loads(path.read_text()) for path in storage.glob(f"{NAME}/trials/*/trial.json")}
    at_work = [path for path, trial in trials.items() if trial["state"] == "running"]
    finished = any(trial["state"] == "finished" for trial in trials.values())
    return finished and any((path / "metrics.jsonl").exists() for path in at_work)


def workers(driver: int) -> list[psutil.Process]:
    """Processes of trials."""
    below = psutil.Process(driver).children(recursive=True)
    return [process for process in below if re.match(r"ray::.*(Offline|train)", " ".join(process.cmdline()))]


@pytest.mark.integration
@pytest.mark.timeout(1500)
def test_a_sweep_survives_the_end_of_workers_and_drivers(start, tmp_path):
    own = tmp_path / "own.py"
    own.write_text(re.search(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)[1])
    made = [str(own), "--tiny", "--name", NAME, "--root", str(tmp_path / "data")]
    undisturbed = start(tmp_path / "straight", *made)
    assert undisturbed.wait(400) == 0, (tmp_path / "straight" / "log").read_text()[-3000:]
    expected = trial_numbers(read_sweep(tmp_path / "straight" / NAME), "algorithm", "lr")
    assert [len(rows) for rows in expected.values()] == [13] * 4

    storage = tmp_path / "disturbed"
    process = start(storage, *made)
    wait_for(lambda: lines(storage) > 3, process, storage)
    (*_, victim) = workers(process.pid)
    victim.kill()
    before = lines(storage)
    wait_for(lambda: lines(storage) > before + 3, process, storage)
    process.send_signal(signal.SIGINT)  # Ctrl-C
    assert process.wait(400) == 1
    assert "the same command resumes" in (storage / "log").read_text()
    results = read_sweep(storage / NAME)
    assert results.record["state"] == "killed"
    assert not (results.trials["state"] == "running").any()

    process = start(storage, NAME, "--resume")
    wait_for(lambda: in_the_middle(storage), process, storage)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    results = read_sweep(storage / NAME)
    assert results.record["state"] == "interrupted"
    assert not (results.trials["state"] == "running").any()
    done = {path: path.stat().st_mtime_ns for path in (storage / NAME).glob("trials/*/metrics.jsonl")}
    done = {path: at for path, at in done.items() if results.trials["state"][path.parent.name] == "finished"}
    assert 1 <= len(done) < 4

    process = start(storage, NAME, "--resume")
    assert process.wait(400) == 0, (storage / "log").read_text()[-3000:]
    results = read_sweep(storage / NAME)
    assert trial_numbers(results, "algorithm", "lr") == expected
    assert (results.trials["state"] == "finished").all()
    folders = [path for path in (storage / NAME / "tune").iterdir() if path.is_dir()]
    assert [len(list(folder.glob("checkpoint_*"))) for folder in folders] == [1] * 4  # the last, and no other
    assert {path: path.stat().st_mtime_ns for path in done} == done  # no finished trial was repeated
