"""The stop-time sweep: fronts, knees and importances from files alone; and the whole command, killed in the middle."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

from spin_rl.errors import UserError
from spin_rl.platform.asm_store.store import asm_root
from spin_rl.platform.common.json_files import write_json
from spin_rl.platform.results.files import MetricsFile, read_sweep, start_sweep
from spin_rl.sweeps.analysis.front import analysis, points_of
from spin_rl.sweeps.analysis.importances import importances
from spin_rl.sweeps.analysis.pareto import front, front_shares, knee
from spin_rl.sweeps.planning.plan import SweepPlan, read_plan, write_plan
from spin_rl.sweeps.planning.search import with_search_options
from spin_rl.sweeps.pretraining_length import SWEEP as GRID
from spin_rl.sweeps.running.opening import open_sweep
from spin_rl.sweeps.stop_time import SWEEP
from tests.platform.sweep_fixture import METHODS


def test_the_front_is_what_nothing_beats():
    generator = np.random.default_rng(0)
    for _ in range(20):
        scores, seconds = generator.integers(0, 6, size=(2, 12)).astype(float)
        expected = [
            not any(
                (scores[j] >= scores[i] and seconds[j] <= seconds[i])
                and (scores[j] > scores[i] or seconds[j] < seconds[i])
                for j in range(12)
            )
            for i in range(12)
        ]
        assert front(scores, seconds).tolist() == expected


@pytest.mark.parametrize(
    ("scores", "seconds", "expected"),
    [
        ([0, 80, 90, 100], [0, 20, 60, 100], 1),  # most of the gain early
        ([0, 10, 30, 100], [0, 40, 70, 100], 3),  # every second pays more than those before it
        ([0, 50, 100], [0, 50, 100], 2),  # as much
        ([5, 5, 3], [10, 20, 30], 0),  # one point beats all
        ([0, 95, 90, 100], [0, 50, 10, 100], 2),  # in any order
    ],
)
def test_the_knee(scores, seconds, expected):
    assert knee(np.array(scores, float), np.array(seconds, float)) == expected


def test_shares_say_how_sure_the_front_is():
    sure = [[[1.0, 1.2], [5, 5]], [[9.0, 9.1], [9, 9]], [[0.5, 0.6], [9, 9]]]
    shares, knees = front_shares(np.array(sure))
    assert shares.tolist() == [1.0, 1.0, 0.0]
    assert knees.sum() == pytest.approx(1.0)
    lucky = [[[4.0, 4.0], [5, 5]], [[9.0, 1.0], [9, 9]]]  # better with the first seed alone: (0,0), (0,1), (1,0)
    assert front_shares(np.array(lucky))[0].tolist() == [1.0, 0.75]
    assert np.isnan(front_shares(np.array([[[1.0], [5.0]]]))).all()  # one seed says nothing of it
    many = np.random.default_rng(0).normal(size=(4, 2, 6))
    assert np.array_equal(front_shares(many)[0], front_shares(many)[0])


def planned(tmp_path, small_data, **changes):
    space = SWEEP.resolve({"level": ("medium-expert",), **changes}, tiny=True)
    return SWEEP.plan(space, str(small_data), asm_root(tmp_path))


def test_one_pretraining_for_each_seed_serves_every_point(tmp_path, small_data):
    plan = planned(tmp_path, small_data, seed=(0, 1, 2))
    assert [(item.config.seed, item.steps) for item in plan.pretrainings] == [(s, (0, 10, 20)) for s in (0, 1, 2)]
    assert plan.search["parameters"] == {"asm_steps": [0, 10, 20], "head_width": [8, 16]}
    (problem,) = plan.search["problems"]
    assert problem["version"] == 1  # a dataset that is made later changes nothing
    assert len(planned(tmp_path, small_data, objective=("iql", "bcq")).search["problems"]) == 2


def test_more_points_belong_to_the_same_sweep(tmp_path, small_data):
    plan = planned(tmp_path, small_data)
    folder = open_sweep(with_search_options(plan, points=3), tmp_path)
    more = with_search_options(plan, points=5)
    assert open_sweep(more, tmp_path) == folder
    assert read_plan(folder).search["points"] == 5
    assert with_search_options(plan, scheduler="asha").name != plan.name
    assert planned(tmp_path, small_data, seed=(7,)).name != plan.name


def test_what_a_user_can_fix_is_reported(tmp_path, small_data):
    with pytest.raises(UserError, match="no parameter"):
        planned(tmp_path, small_data, asm_steps=(10,), head_width=(16,))
    plan = planned(tmp_path, small_data)
    with pytest.raises(UserError, match="scheduler"):
        with_search_options(plan, scheduler="asah")
    grid = GRID.plan(GRID.resolve({}, tiny=True), str(small_data), asm_root(tmp_path))
    with pytest.raises(UserError, match="runs its space whole"):
        with_search_options(grid, points=3)


def test_a_password_is_not_kept_with_the_command(tmp_path, small_data, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["spin-rl", "sweep", "--study-storage", "postgresql://me:sesame:x@host:1/db"])
    folder = open_sweep(planned(tmp_path, small_data), tmp_path)
    assert "sesame" not in "".join(path.read_text() for path in folder.glob("*.json"))
    assert "postgresql://me:***@host:1/db" in json.loads((folder / "sweep.json").read_text())["command"]


def leave_files(folder):
    """A search over three stops and two rates with two seeds; the rate matters for the score alone, and less."""
    start_sweep(folder, name="toy", methods=METHODS)
    parameters = {"asm_steps": [0, 500, 1000], "lr": [0.1, 0.2, 0.4]}
    write_plan(folder, SweepPlan("toy", "", (), sweep="stop-time", search={"parameters": parameters}))
    number = 0
    for steps in parameters["asm_steps"]:
        for rate in parameters["lr"]:
            for seed in (0, 1):
                trial_id = f"abcde_{number:04d}_{seed}"
                params = {"algorithm": "spin", "task": "toy", "bins": 3, "level": "expert", "objective": "iql"}
                params |= {"seed": seed, "asm_steps": steps, "lr": rate, "updates": 20}
                record = {"trial_id": trial_id, "params": params, "state": "finished", "started": 0.0}
                write_json(folder / "trials" / trial_id / "trial.json", record)
                for updates in (10, 20):
                    score = updates * (1 + steps**0.5 / 10) + rate + seed
                    metrics = {"eval/return_mean": score, "eval/normalized_score": score, "eval/updates": updates}
                    times = {"time/pretrain_seconds": steps / 10, "time/train_seconds": updates / 10}
                    MetricsFile(folder / "trials" / trial_id / "metrics.jsonl").append(
                        {"updates": updates, "timestamp": 0.0, **metrics, **times}
                        | {"time/total_seconds": sum(times.values())}
                    )
            number += 1
    other = {"trial_id": "fghij_0000_0", "params": {**params, "algorithm": "spin-cached"}, "state": "finished"}
    write_json(folder / "trials/fghij_0000_0/trial.json", other)
    MetricsFile(folder / "trials/fghij_0000_0/metrics.jsonl").append(
        {"updates": 20, "timestamp": 0.0, **metrics, **times, "time/total_seconds": 1.0}
    )
    killed = {"trial_id": "abcde_0099_0", "params": {**params, "asm_steps": 0}, "state": "killed"}
    write_json(folder / "trials/abcde_0099_0/trial.json", killed)


def test_the_analysis_needs_nothing_but_files(tmp_path):
    folder = tmp_path / "toy"
    leave_files(folder)
    results = read_sweep(folder)
    problems = points_of(results, ["asm_steps", "lr"])
    assert sorted(problems) == ["toy, 3 bins, expert, IQL, SPIN", "toy, 3 bins, expert, IQL, SPIN-Cached"]
    points = problems["toy, 3 bins, expert, IQL, SPIN"]
    assert len(points) == 9
    best = points.iloc[0]
    assert (best["asm_steps"], best["lr"], best["seeds"]) == (1000, 0.4, 2)
    assert best["score"] == pytest.approx(20 * (1 + 1000**0.5 / 10) + 0.4 + 0.5)
    assert best["seconds"] == pytest.approx(102.0)
    assert best["pretrain_seconds"] == pytest.approx(100.0)
    assert set(points[points["front"]]["asm_steps"]) == {0, 500, 1000}
    assert points[points["knee"]]["asm_steps"].tolist() == [500]

    shares = importances(points, ["asm_steps", "lr"]).set_index("parameter")
    assert shares["score"].sum() == pytest.approx(1.0)
    assert shares.loc["asm_steps", "score"] > 0.8
    assert shares.loc["asm_steps", "seconds"] > 0.8
    assert importances(points.head(5), ["asm_steps", "lr"]).empty

    (section,) = analysis(results)
    assert "The knee is 500 steps" in section.text
    assert {name for name, _ in section.figures.values()} == {"front", "importances"}
    assert set(section.data) == {"points", "importances"}
    assert len(section.tables) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


OPTIONS = "--tiny --tasks cheetah-run --trials 4 --seeds 0 --set head_width=16,8,4"


def start(storage, data):
    storage.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "spin_rl", "sweep", "stop-time", *OPTIONS.split()]
    with (storage / "log").open("ab") as log:
        return subprocess.Popen([*command, "--root", str(data), "--storage", str(storage)], stdout=log, stderr=log)


@pytest.mark.integration
@pytest.mark.timeout(1200)
def test_a_killed_stop_time_sweep_resumes(small_data, tmp_path):
    """The command as a whole; that a killed search ends as one that is not, test_search.py shows on a toy."""
    data, storage = tmp_path / "data", tmp_path / "results"
    shutil.copytree(small_data, data / "tiny")
    process = start(storage, data)
    try:
        until = time.monotonic() + 500
        while not [path for path in storage.glob("*/trials/*/trial.json") if '"finished"' in path.read_text()]:
            assert process.poll() is None, (storage / "log").read_text()[-4000:]
            assert time.monotonic() < until
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    models = {path: path.stat().st_mtime_ns for path in asm_root(storage).rglob("*.safetensors")}
    assert len(models) >= 3
    finished = [path.parent for path in storage.glob("*/trials/*/trial.json") if '"finished"' in path.read_text()]
    assert len(finished) < 4

    process = start(storage, data)
    try:
        assert process.wait(600) == 0, (storage / "log").read_text()[-4000:]
    finally:
        process.kill()
    assert {path: path.stat().st_mtime_ns for path in asm_root(storage).rglob("*.safetensors")} == models
    (folder,) = [path.parent for path in storage.glob("*/sweep.json")]
    results = read_sweep(folder)
    assert results.trials["state"].tolist() == ["finished"] * 4
    points = results.trials.sort_index()
    assert points["asm_steps"].tolist()[:3] == [0, 20, 10]  # none, the longest, the middle; then one at random
    for trial_id, metrics in results.metrics.groupby("trial_id"):
        assert metrics["updates"].tolist() == [0, 2, 4], trial_id
    for place in finished:  # an end that had been written is not repeated
        assert len((place / "metrics.jsonl").read_text().splitlines()) == 3
    report = folder / "report"
    assert {"front.png", "points.csv", "report.html"} <= {path.name for path in report.iterdir()}
    with sqlite3.connect(storage / "studies.db") as database:
        assert database.execute("SELECT number, state FROM trials ORDER BY number").fetchall() == [
            (number, "COMPLETE") for number in range(4)
        ]
