"""Optuna as Tune's search: what the study is told, what a new process makes of a dead one's study and files."""

import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
import toy_search
from sqlalchemy.exc import OperationalError
from toy_search import SEEDS, SPACE, end, make_search, make_trials, run_points, score_of, states, told

from spin_rl.errors import UserError
from spin_rl.platform.results.files import read_sweep
from spin_rl.sweeps.search.studies import open_study, study_name, study_url, without_password
from spin_rl.sweeps.search.study_search import StudySearch
from spin_rl.sweeps.search.study_spec import StudySpec


def test_a_point_gives_the_mean_over_its_seeds(tmp_path):
    with make_search(tmp_path / "toy", 1) as search:
        first = search.draw()
        assert search.draw() is None  # one at a time
        end(search, first, score=1.0, seconds=10.0)
        assert states(search) == ["RUNNING"]
        second = search.draw()
        assert {**first[1], "seed": 1} == second[1]
        end(search, second, score=2.0, seconds=30.0)
        assert search.draw() is None
        assert search.is_finished()
        assert search.complete
    assert told(search) == [(0, "COMPLETE", [1.5, 20.0], {"x": first[1]["x"], "stop": first[1]["stop"]})]


@pytest.mark.parametrize(
    ("state", "score", "expected"), [("pruned", 1.0, "PRUNED"), ("failed", 1.0, "FAIL"), ("finished", None, "FAIL")]
)
def test_a_point_ends_with_the_first_trial_that_does_not_finish(tmp_path, state, score, expected):
    with make_search(tmp_path / "toy", 2) as search:
        end(search, search.draw(), state, score)
        following = search.draw()
        if score is None:  # known only when all have told
            end(search, following)
            following = search.draw()
        assert following[0].endswith("0001_0")
    assert states(search) == [expected, "RUNNING"]


def test_points_do_not_depend_on_how_often_the_process_died(tmp_path):
    with make_search(tmp_path / "one/toy", 6) as search:
        run_points(search, 6)
    undisturbed = told(search)
    assert len({str(params) for _, _, _, params in undisturbed}) == 6

    for trials in (0, 1, 5):  # before a process dies with another trial at work
        with make_search(tmp_path / "many/toy", 6) as search:
            for _ in range(trials):
                drawn = search.draw()
                end(search, drawn, score=score_of(drawn[1]), seconds=10.0 + drawn[1]["stop"])
            assert search.draw() is not None
    with make_search(tmp_path / "many/toy", 6) as search:
        run_points(search, 6)
    assert search.complete
    assert told(search) == undisturbed

    with make_search(tmp_path / "other/toy", 6, seed=1) as search:
        run_points(search, 6)
    assert told(search) != undisturbed


def test_a_point_that_was_cut_off_while_it_was_drawn_is_drawn_to_its_end(tmp_path):
    with make_search(tmp_path / "one/toy", 6) as search:
        run_points(search, 6)
    with make_search(tmp_path / "cut/toy", 6) as other:
        run_points(other, 5)
        other.study.ask()._suggest("stop", SPACE["stop"])
    with make_search(tmp_path / "cut/toy", 6) as other:
        run_points(other, 1)
    assert told(other) == told(search)


def test_what_finished_without_a_driver_is_told_and_not_run_again(tmp_path):
    search = make_search(tmp_path / "toy", 2, at_once=4)
    with search:
        drawn = [search.draw() for _ in range(2 * SEEDS)]
        assert None not in drawn
    end(search, drawn[0], score=3.0)
    end(search, drawn[1], score=5.0)
    end(search, drawn[2], "running")
    with make_search(tmp_path / "toy", 2, at_once=4) as search:
        assert states(search) == ["COMPLETE", "RUNNING"]
        assert told(search)[0][2] == [4.0, 2.0]
        assert [search.draw(), search.draw(), search.draw()] == [drawn[2], drawn[3], None]


def test_a_later_search_with_more_points_continues(tmp_path):
    with make_search(tmp_path / "toy", 2) as search:
        run_points(search, 2)
    assert search.complete
    with make_search(tmp_path / "toy", 3) as search:
        assert not search.complete
        run_points(search, 1)
    assert search.complete
    assert states(search) == ["COMPLETE"] * 3


def test_a_failed_point_is_replaced_by_another_run_of_the_search(tmp_path):
    with make_search(tmp_path / "toy", 1) as search:
        end(search, search.draw(), "failed")
        assert search.draw() is None
        assert not search.complete
    with make_search(tmp_path / "toy", 1) as search:
        run_points(search, 1)
    assert search.complete
    assert states(search) == ["FAIL", "COMPLETE"]


def small_search(folder, points, **changes):
    """Over four points in all."""
    space = {"stop": SPACE["stop"]}
    spec = StudySpec(space, lambda params: make_trials({"x": 0.0, **params}), points=points, **changes)
    return StudySearch(spec, name="toy", settings={}, folder=folder, url=study_url(None, folder.parent))


def test_a_space_with_no_more_points_than_asked_for_is_run_whole(tmp_path):
    with small_search(tmp_path / "toy", 20) as search:
        run_points(search, 4)
        assert search.draw() is None
        assert search.complete
    assert [params["stop"] for _, _, _, params in told(search)] == [0, 1, 2, 4]


def test_a_point_that_is_drawn_twice_runs_once(tmp_path):
    with small_search(tmp_path / "toy", 3, first=({"stop": 2}, {"stop": 2})) as search:
        assert search.spec.grid() is None
        while drawn := search.draw():
            end(search, drawn)
        assert search.complete
    stops = [params["stop"] for _, _, _, params in told(search)]
    assert stops[:2] == [2, 2]
    assert len(set(stops)) == 3  # another is drawn in its place
    assert len(list((tmp_path / "toy/trials").iterdir())) == SEEDS * 3
    assert set(states(search)) == {"COMPLETE"}
    assert search.complete


def test_a_storage_that_does_not_answer_costs_waiting_only(tmp_path, monkeypatch, caplog):
    with make_search(tmp_path / "toy", 2) as search:
        run_points(search, 1)

        def away(*_arguments, **_settings):
            raise OperationalError("SELECT", {}, Exception("server closed the connection"))

        with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
            patch.setattr(search.study, "tell", away)
            assert search.draw() is None
            assert search.draw() is None
            assert not search.is_finished()
        assert len(caplog.records) == 1
        run_points(search, 1)
    assert states(search) == ["COMPLETE"] * 2


def test_studies_of_other_sweeps_and_settings_share_a_database(tmp_path):
    names = {study_name(sweep, {"level": level}) for sweep in "ab" for level in ("medium", "expert")}
    assert len(names) == 4
    assert study_name("a", {"x": 1, "y": 2}) == study_name("a", {"y": 2, "x": 1})
    with make_search(tmp_path / "toy", 1) as one, make_search(tmp_path / "toy2", 1, seed=5) as other:
        run_points(one, 1)
        assert states(other) == []


def test_what_a_user_can_fix_is_reported(tmp_path):
    with make_search(tmp_path / "toy", 1) as search:
        run_points(search, 1)
        with pytest.raises(UserError, match="Another process"), make_search(tmp_path / "toy", 1):
            pass
    with (
        pytest.raises(UserError, match="does not know"),
        make_search(tmp_path / "toy", 1, "sqlite:///" + str(tmp_path / "new.db")),
    ):
        pass
    with make_search(tmp_path / "toy", 1) as search:  # it let go of the lock
        assert search.complete
    with pytest.raises(UserError, match="no parameter"):
        StudySpec({}, make_trials, points=1)
    with pytest.raises(UserError, match="one point"):
        StudySpec(SPACE, make_trials, points=0)


SECRET = "sesame-open"


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql://me:{SECRET}@127.0.0.1:1/studies",
        f"mysql+nodriver://me:{SECRET}@127.0.0.1:1/studies",
        f"postgresql//me:{SECRET}@127.0.0.1/studies",
        f"postgresql://127.0.0.1:1/studies?user=me&password={SECRET}",
    ],
)
def test_a_password_is_never_shown(tmp_path, address, caplog):
    with pytest.raises(UserError) as raised:
        open_study(study_url(address, tmp_path), "toy", ["maximize"], optuna.samplers.RandomSampler())
    assert SECRET not in str(raised.value)
    assert SECRET not in "".join(map(str, [raised.value.__cause__, *caplog.messages]))


def test_tune_is_given_no_password_to_pickle(tmp_path):
    url = study_url(f"postgresql://me:{SECRET}@host/studies", tmp_path)
    spec = StudySpec(SPACE, make_trials, points=1)
    search = StudySearch(spec, name="toy", settings={}, folder=tmp_path, url=url)
    assert SECRET.encode() not in pickle.dumps(search)
    assert SECRET not in without_password(url)
    assert SECRET not in search.place


def start(folder, points, *options):
    folder.mkdir(parents=True, exist_ok=True)
    script = Path(toy_search.__file__)
    command = [sys.executable, str(script), str(folder), f"sqlite:///{folder.parent}/studies.db", str(points), *options]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def finish(process, folder):
    assert process.wait(300) == 0, (folder / "log").read_text()[-3000:]


def outcome(folder, points):
    """The study, each trial's end, and its numbers."""
    url = f"sqlite:///{folder.parent}/studies.db"
    with make_search(folder, points, url) as search:
        study = told(search)
    results = read_sweep(folder)
    own = [name for name in results.metrics if name != "timestamp" and not name.startswith("system/")]
    metrics = results.metrics[own].fillna(-1.0).to_dict("records")
    return study, results.trials["state"].to_dict(), metrics


@pytest.mark.integration
def test_a_search_that_is_killed_ends_as_one_that_is_not(tmp_path):
    """Points, ends and numbers are the same to the last bit, as a toy's seconds are part of its numbers."""
    points = 6
    straight, killed = tmp_path / "straight/toy", tmp_path / "killed/toy"
    finish(start(straight, points, "asha"), straight)
    expected = outcome(straight, points)
    assert {state for _, state, _, _ in expected[0]} == {"COMPLETE", "PRUNED", "FAIL"}

    process = start(killed, points, "asha")
    until = time.monotonic() + 300
    while not list(killed.glob("trials/*_0002_0/metrics.jsonl")):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = {path.parent.name: json.loads(path.read_text())["state"] for path in killed.glob("trials/*/trial.json")}
    assert sorted(before.values()) == ["finished"] * 4 + ["running"]

    finish(start(killed, points, "asha"), killed)
    assert outcome(killed, points) == expected
    for steps in killed.glob("notes/*/steps"):  # each trial went on from its own checkpoint
        made = [int(line) for line in steps.read_text().split()]
        assert made == sorted(made)
        assert len(made) <= len(set(made)) + 1  # but for the step that failed, or was at work at the kill
