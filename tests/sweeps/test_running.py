"""How plans are run: grids and searches by one entry, what is open and complete by the files alone."""

import pytest

from spin_rl.platform.common.json_files import read_json, write_json
from spin_rl.sweeps import run
from spin_rl.sweeps.planning.plan import SweepPlan
from spin_rl.sweeps.running import engine
from spin_rl.sweeps.running.completion import is_complete, mark_pruned, open_trials, trial_state, write_search_record
from spin_rl.sweeps.running.resources import TrialResources
from spin_rl.sweeps.running.tune_trials import TrialQueue

TRIAL = {"algorithm": "factored", "task": "t", "bins": 3, "objective": "iql", "preset": "tiny", "updates": 4}
GRID = SweepPlan("grid", "", tuple({**TRIAL, "seed": seed} for seed in range(3)))
SEARCH = SweepPlan("search", "", GRID.trials, search={"points": 4, "problems": [{}, {}], "parameters": {}})


def leave(folder, trial_id, state):
    write_json(folder / "trials" / trial_id / "trial.json", {"trial_id": trial_id, "state": state})


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (GRID, ("grid", {"tracking_uri": "uri", "resources": TrialResources(2, 0.5)})),
        (
            SEARCH,
            ("search", {"tracking_uri": "uri", "study_storage": "address", "resources": TrialResources(2, 0.5)}),
        ),
    ],
)
def test_a_plan_is_run_as_what_it_is(monkeypatch, tmp_path, plan, expected):
    calls = []
    for kind in ("grid", "search"):
        monkeypatch.setattr(
            run, f"run_{kind}", lambda plan, storage, kind=kind, **options: calls.append((kind, options)) or storage
        )
    options = {"tracking_uri": "uri", "study_storage": "address", "cpus_per_trial": 2, "gpus_per_trial": 0.5}
    assert run.run_plan(plan, tmp_path, **options) == tmp_path
    assert calls == [expected]


def test_a_grid_runs_what_is_not_done_and_nothing_when_all_is(monkeypatch, tmp_path):
    runs = []

    def run_trials(plan, folder, source, **options):
        trials = []
        while not source.is_finished():
            trials.append(source._waiting.popleft()[0])
        runs.append((trials, options["coming"], options["done"]))

    monkeypatch.setattr(engine, "run_trials", run_trials)
    first, second, third = GRID.by_id()
    leave(tmp_path / "grid", second, "finished")
    assert engine.run_grid(GRID, tmp_path, tracking_uri="") == tmp_path / "grid"
    ((trials, coming, done),) = runs
    assert trials == [first, third]
    assert [updates for _, updates in (*coming, *done)] == [4, 4, 4]
    assert len(done) == 1
    for trial_id in (first, third):
        leave(tmp_path / "grid", trial_id, "pruned")
    engine.run_grid(GRID, tmp_path, tracking_uri="")
    assert len(runs) == 1
    assert is_complete(tmp_path / "grid", GRID)


def test_a_queue_ends_with_its_last_trial():
    queue = TrialQueue({})
    assert queue.is_finished()
    assert queue.next_trial() is None
    assert TrialQueue({"a": TRIAL, "b": TRIAL}).total_samples == 2


def test_failed_and_killed_trials_are_open_again(tmp_path):
    for trial_id, state in zip(GRID.by_id(), ("failed", "killed", "finished"), strict=True):
        leave(tmp_path, trial_id, state)
    assert list(open_trials(tmp_path, GRID)) == list(GRID.by_id())[:2]
    assert not is_complete(tmp_path, GRID)
    assert trial_state(tmp_path, "no_00000") is None


def test_a_search_is_complete_when_all_its_studies_have_their_points(tmp_path):
    assert not is_complete(tmp_path, SEARCH)
    for complete, expected in (({"a": 4}, False), ({"a": 4, "b": 3}, False), ({"a": 5, "b": 4}, True)):
        write_search_record(tmp_path, "sqlite:///x", complete)
        assert is_complete(tmp_path, SEARCH) is expected
    assert read_json(tmp_path / "search.json")["study_storage"] == "sqlite:///x"


def test_what_has_ended_is_not_marked_as_pruned(tmp_path):
    states = {"a_0": "running", "a_1": "killed", "a_2": "failed", "b_0": "running"}
    for trial_id, state in states.items():
        leave(tmp_path, trial_id, state)
    mark_pruned(tmp_path, "a_")
    assert {name: trial_state(tmp_path, name) for name in states} == {
        **{"a_0": "pruned", "a_1": "pruned"},
        **{"a_2": "failed", "b_0": "running"},
    }


@pytest.mark.parametrize(("cpus", "gpus", "expected"), [(1, 0, 10), (4, 0, 2), (1, 0.5, 4), (4, 1, 2), (64, 0, 1)])
def test_as_many_trials_run_at_once_as_the_cluster_has_room_for(monkeypatch, cpus, gpus, expected):
    monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 10.0, "GPU": 2.0})
    assert TrialResources(cpus, gpus).at_once() == expected
