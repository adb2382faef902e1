"""The main job, tiny: killed in the middle it goes on to the numbers of an undisturbed run and repeats nothing."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spin_rl.platform.results.files import SweepResults, read_sweep

COMMAND = "quickstart --preset tiny --size 2000 --updates 2 --asm-steps 20 --episodes 1 --seed 3"


def start(storage: Path, data: Path) -> subprocess.Popen:
    arguments = [*COMMAND.split(), "--root", str(data), "--storage", str(storage)]
    storage.mkdir(parents=True, exist_ok=True)
    with (storage / "log").open("ab") as log:
        return subprocess.Popen([sys.executable, "-m", "spin_rl", *arguments], stdout=log, stderr=log)


def finish(process: subprocess.Popen, storage: Path) -> Path:
    """Wait for the command's end; returns the sweep's folder."""
    assert process.wait(300) == 0, (storage / "log").read_text()[-4000:]
    (folder,) = [path.parent for path in storage.glob("*/sweep.json")]
    return folder


def wait_for(what: Callable[[], bool], process: subprocess.Popen, seconds: float = 200) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)


def by_method(results: SweepResults) -> dict[str, list[dict[str, float]]]:
    """What was reported, update by update, without what depends on the clock and the machine."""
    numbers = {}
    for trial_id, trial in results.trials.iterrows():
        metrics = results.metrics[results.metrics["trial_id"] == trial_id]
        kept = [name for name in metrics if name == "updates" or name.startswith(("eval/", "train/"))]
        numbers[trial["algorithm"]] = metrics[kept].astype(float).fillna(-1.0).to_dict("records")
    return numbers


def files_of(folder: Path) -> dict[str, int]:
    """When each file was last written, but for locks."""
    return {
        str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"
    }


def runs_in(store: Path) -> dict[str, tuple[str, int]]:
    """Status of the sweep's run in MLflow's store and of each run below it, with the evaluations that it holds."""
    query = (
        "SELECT runs.name, runs.status, (SELECT count(*) FROM metrics"
        " WHERE metrics.run_uuid = runs.run_uuid AND metrics.key = 'eval/return_mean')"
        " FROM runs LEFT JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = 'mlflow.parentRunId'"
        " WHERE tags.value IN (SELECT run_uuid FROM runs WHERE name LIKE 'quickstart%') OR runs.name LIKE 'quickstart%'"
    )
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as database:
        rows = database.execute(query).fetchall()
    assert len({name for name, _, _ in rows}) == len(rows)
    return {name.split()[0].split("-")[0]: (status, count) for name, status, count in rows}


@pytest.mark.integration
def test_a_killed_quickstart_resumes_and_repeats_nothing(small_data, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(small_data, data)
    straight = by_method(read_sweep(finish(start(tmp_path / "straight", data), tmp_path / "straight")))
    assert sorted(straight) == ["autoregressive", "factored", "saint", "spin"]

    storage = tmp_path / "killed"
    process = start(storage, data)

    def trials() -> dict[Path, dict]:
        return {path.parent: json.loads(path.read_text()) for path in storage.glob("*/trials/*/trial.json")}

    def in_the_middle() -> bool:
        """Some are finished, another has reported."""
        now = trials()
        done = [trial for trial in now.values() if trial["state"] == "finished"]
        at_work = [path for path, trial in now.items() if trial["state"] == "running"]
        return bool(done) and any((path / "metrics.jsonl").exists() for path in at_work)

    wait_for(in_the_middle, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    finished = [path for path, trial in trials().items() if trial["state"] == "finished"]
    assert 1 <= len(finished) < 4
    models = files_of(storage / "asm")
    assert models

    folder = finish(start(storage, data), storage)
    results = read_sweep(folder)
    assert by_method(results) == straight
    assert len(results.trials) == 4
    assert (results.trials["state"] == "finished").all()
    for path in finished:  # and is not heard of again
        updates = [json.loads(line)["updates"] for line in (path / "metrics.jsonl").read_text().splitlines()]
        assert updates == [0, 1, 2]
    assert files_of(storage / "asm") == models
    runs = runs_in(storage / "mlflow.db")
    assert runs == {"quickstart": ("FINISHED", 0)} | dict.fromkeys(straight, ("FINISHED", 3))

    kept = {**files_of(folder / "trials"), **files_of(folder / "tune"), **models}
    finish(start(storage, data), storage)
    assert {**files_of(folder / "trials"), **files_of(folder / "tune"), **files_of(storage / "asm")} == kept
    assert runs_in(storage / "mlflow.db") == runs
    assert (folder / "report/report.html").exists()
