"""How long a sweep will take, and who runs it."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from spin_rl.algorithms.rllib.learner import keep_to_share
from spin_rl.errors import UserError
from spin_rl.platform.common.json_files import write_json
from spin_rl.platform.results.driver import drive, is_interrupted
from spin_rl.platform.results.files import read_sweep, start_sweep
from spin_rl.sweeps.planning.plan import SweepPlan
from spin_rl.sweeps.running.estimate import estimate
from spin_rl.sweeps.running.progress import TimeLeft, TrialProgress, in_words, kind_of

FAST = {"algorithm": "factored", "task": "t", "bins": 3, "objective": "iql", "preset": "tiny", "updates": 100}
SLOW = FAST | {"algorithm": "spin"}


def test_the_time_left_knows_slow_methods_from_fast_ones():
    left = TimeLeft([("fast", 100), ("fast", 100), ("slow", 100)])
    assert left.seconds(1) is None
    left.add("fast", 10.0, 50)  # 0.2 s an update; the slow one is taken for as fast
    assert left.seconds(1) == pytest.approx(50 * 0.2 + 100 * 0.2 + 100 * 0.2)
    left.add("slow", 20.0, 10)
    assert left.seconds(1) == pytest.approx(150 * 0.2 + 90 * 2.0)
    assert left.seconds(2) == pytest.approx((150 * 0.2 + 90 * 2.0) / 2)
    left.drop("slow", 90)  # it failed
    assert left.seconds(1) == pytest.approx(150 * 0.2)


def test_the_time_left_of_a_search_counts_what_it_will_ask_for():
    left = TimeLeft([("", 100)] * 3)
    left.add("spin", 10.0, 20)
    assert left.seconds(1) == pytest.approx(280 * 0.5)


def test_durations_are_said_in_words():
    assert [in_words(seconds) for seconds in (30, 600, 9000)] == ["30 s", "10 min", "2.5 h"]


def test_a_plan_is_estimated_by_what_was_timed_in_its_storage(tmp_path):
    plan = SweepPlan("p", "", (FAST, SLOW))
    assert estimate(plan, plan.trials, tmp_path).trials is None
    for number, (params, seconds) in enumerate([(FAST, 10), (FAST, 12), (FAST, 500), (SLOW, 200)]):
        record = {"params": params, "state": "finished", "starts": 1, "started": 0, "ended": seconds}
        write_json(tmp_path / "s/trials" / str(number) / "trial.json", record)
    assert estimate(plan, plan.trials, tmp_path).trials == pytest.approx(12 + 200)  # medians
    assert estimate(plan, [], tmp_path).trials == 0
    bigger = SLOW | {"network": {"asm": {"width": 512}}}
    assert kind_of(bigger) != kind_of(SLOW)
    assert estimate(plan, [FAST, bigger], tmp_path).trials == pytest.approx(12 + (12 + 0) / 1)


def test_a_trial_on_a_fraction_of_a_gpu_keeps_to_its_share_of_the_memory(monkeypatch):
    kept = []
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, device: kept.append((share, device))
    )
    gpu = torch.device("cuda")
    for device, gpus in ((gpu, 0.25), (gpu, 1), (gpu, 0), (torch.device("cpu"), 0.5)):
        keep_to_share(device, gpus)
    assert kept == [(0.25, gpu)]


def test_a_sweep_is_run_by_one_process_at_a_time(tmp_path):
    start_sweep(tmp_path, name="s")
    assert not is_interrupted(tmp_path)  # nobody ever ran it
    with drive(tmp_path):
        assert not is_interrupted(tmp_path)
        with pytest.raises(UserError, match=f"is run by process {os.getpid()} on "), drive(tmp_path):
            pass
    assert is_interrupted(tmp_path)


def test_a_sweep_whose_driver_was_killed_is_seen_as_interrupted(tmp_path):
    start_sweep(tmp_path, name="s")
    write_json(tmp_path / "trials/a/trial.json", {"trial_id": "a", "params": {}, "state": "running"})
    script = "import os, sys; from pathlib import Path; from spin_rl.platform.results.driver import drive\n"
    script += "with drive(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    assert read_sweep(tmp_path).record["state"] == "running"
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    results = read_sweep(tmp_path)
    assert results.record["state"] == "interrupted"
    assert results.trials["state"].tolist() == ["killed"]
    with drive(Path(tmp_path)):  # and can be gone on with at once
        assert read_sweep(tmp_path).record["state"] == "running"


def test_what_is_shown_of_trials_counts_those_that_were_done_before(monkeypatch):
    shown: dict[int, tuple[int, str]] = {}
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr("spin_rl.sweeps.running.progress.time.monotonic", lambda: float(next(clock)))
    screen = SimpleNamespace(
        add=lambda label, *_, **__: len(shown),
        update=lambda bar, done, note="", **_: shown.update({bar: (done, note)}),
        finish=lambda bar: None,
        console=SimpleNamespace(print=lambda text: None),
    )
    kind = kind_of(FAST)
    progress = TrialProgress(screen, [(kind, 100)] * 2, [(kind, 100)])
    progress.setup()
    assert shown[0] == (100, "1 finished")
    trial = SimpleNamespace(trial_id="a", error_file="", config={"trial": {**FAST, "level": "medium", "seed": 0}})
    progress.on_trial_start(trial)

    def report(updates: int) -> None:
        progress.on_trial_result(trial, {"updates": updates, "eval": {"return_mean": 1.0}, "perf": {}})

    report(40)  # it goes on from its checkpoint
    assert shown[0] == (140, "1 finished")
    report(60)  # 20 updates in 10 seconds; 140 are left
    assert shown[0] == (160, "1 finished · about 70 s left")
    progress.on_trial_error(trial)
    assert shown[0] == (200, "1 finished · 1 failed · about 50 s left")
