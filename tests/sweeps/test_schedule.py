"""ASHA over points: who is compared with whom, what seconds protect, and that a new process decides as the old one."""

import random
from types import SimpleNamespace

import pytest

from spin_rl.errors import UserError
from spin_rl.platform.common.json_files import read_json, write_json
from spin_rl.platform.results.files import MetricsFile
from spin_rl.sweeps.search.schedule import SCORE, SECONDS, PointASHA


class Sweep:
    """Gives a scheduler results and leaves the files that ``ResultsCallback`` would."""

    def __init__(self, folder, **settings):
        self.folder, self.settings, self.clock = folder, {"first_rung": 10, "most": 90, **settings}, 0.0
        self.restart()

    def restart(self):
        self.scheduler = PointASHA(self.folder, **self.settings)
        self.known = set()

    def report(self, point, seed, updates, score, seconds=1.0, study="study", measured=None):
        """Whether the trial is told to stop."""
        trial_id = f"{study}_{point:04d}_{seed}"
        trial = SimpleNamespace(trial_id=trial_id, config={"trial": {"seed": seed}})
        if trial_id not in self.known:
            self.known.add(trial_id)
            self.scheduler.on_trial_add(None, trial)
        line = {"updates": updates, SCORE: score, SECONDS: seconds, "eval/updates": measured}
        stopped = self.scheduler.on_trial_result(None, trial, line) == "STOP"
        path = self.folder / "trials" / trial_id / "trial.json"
        self.clock += 1.0
        record = {"trial_id": trial_id, "params": {"seed": seed}, "state": "pruned" if stopped else "running"}
        write_json(path, record)
        MetricsFile(path.with_name("metrics.jsonl")).append({**line, "timestamp": self.clock})
        return stopped


def test_the_worse_at_a_rung_end_there(tmp_path):
    sweep = Sweep(tmp_path)
    assert not sweep.report(0, 0, 5, 1.0)  # before the first rung
    assert not sweep.report(0, 0, 10, 50.0)
    assert not sweep.report(1, 0, 10, 60.0)
    assert sweep.report(2, 0, 10, 40.0)
    assert not sweep.report(0, 0, 20, 0.0)  # past that rung, before the next
    assert not sweep.report(1, 0, 30, 60.0)
    assert sweep.report(0, 0, 30, 10.0)


def test_a_score_counts_where_it_was_measured(tmp_path):
    sweep = Sweep(tmp_path)
    assert not sweep.report(0, 0, 10, 50.0)
    assert not sweep.report(1, 0, 10, 0.0, measured=0)  # still the untrained policy's
    assert sweep.report(1, 0, 20, 40.0, measured=10)


def test_like_is_compared_with_like(tmp_path):
    sweep = Sweep(tmp_path)
    assert not sweep.report(0, 0, 10, 50.0)
    assert not sweep.report(1, 1, 10, 40.0)  # another seed
    assert not sweep.report(1, 0, 10, 40.0, study="other")  # another problem
    assert sweep.report(1, 0, 10, 40.0)


def test_a_trial_that_is_cheaper_than_all_better_ones_continues(tmp_path):
    sweep = Sweep(tmp_path)
    assert not sweep.report(0, 0, 10, 50.0, seconds=100.0)
    assert not sweep.report(1, 0, 10, 10.0, seconds=20.0)
    assert sweep.report(2, 0, 10, 9.0, seconds=30.0)
    assert sweep.report(3, 0, 10, 10.0 - 1e-9, seconds=20.0)


def test_the_first_trial_that_ends_early_ends_its_point(tmp_path):
    sweep = Sweep(tmp_path)
    sweep.report(0, 0, 10, 50.0)
    assert not sweep.report(1, 1, 10, 90.0)
    assert sweep.report(1, 0, 10, 40.0)
    assert sweep.report(1, 1, 20, 90.0)
    sweep.restart()
    assert sweep.report(1, 2, 5, 90.0)


@pytest.mark.parametrize("kills", [0.1, 0.5])
def test_a_restart_changes_no_decision(tmp_path, kills):
    chance = random.Random(0)
    runs = []
    for name, share in (("straight", 0.0), ("killed", kills)):
        numbers = random.Random(1)
        sweep, decisions, alive = Sweep(tmp_path / name, reduction=2), [], {}
        for _ in range(120):
            number = numbers.randrange(12)
            score, seconds = numbers.uniform(0, 100), float(numbers.randrange(3))
            updates = alive.get(number, 0) + 10
            if chance.random() < share:
                sweep.restart()
            if updates < 90 and number not in [point for point, stopped in decisions if stopped]:
                decisions.append((number, sweep.report(number, 0, updates, score, seconds)))
                alive[number] = updates
        runs.append(decisions)
    assert runs[0] == runs[1]
    assert any(stopped for _, stopped in runs[0])


def test_a_decision_that_was_not_carried_out_is_after_a_restart(tmp_path):
    sweep = Sweep(tmp_path)
    sweep.report(0, 0, 10, 50.0)
    assert sweep.report(1, 0, 10, 40.0)
    path = tmp_path / "trials/study_0001_0/trial.json"  # the driver died before it could write the end
    write_json(path, {**read_json(path), "state": "running"})
    sweep.restart()
    assert sweep.report(1, 0, 10, 40.0)


@pytest.mark.parametrize("settings", [{"first_rung": 0}, {"first_rung": 90}, {"reduction": 1}])
def test_rungs_that_are_none_are_refused(tmp_path, settings):
    with pytest.raises(UserError, match="rung"):
        Sweep(tmp_path, **settings)
