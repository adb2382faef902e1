"""The pieces of a study's search: which trials wait and run, what the files say of a point, what the study knows."""

import optuna
import pytest

from spin_rl.platform.common.json_files import write_json
from spin_rl.platform.results.files import MetricsFile
from spin_rl.sweeps.search.open_points import OpenPoints
from spin_rl.sweeps.search.point_files import Outcome, PointFiles
from spin_rl.sweeps.search.study_book import StudyBook
from spin_rl.sweeps.search.study_spec import StudySpec

METRICS = {"score": "maximize", "seconds": "minimize"}


def test_trials_run_in_the_order_in_which_their_points_were_drawn():
    points = OpenPoints()
    points.open(0, ["0_0", "0_1"], [("0_1", {"seed": 1})])  # the first ended before a restart
    points.open(1, [], [])  # repeats another
    points.open(2, ["2_0", "2_1"], [("2_0", {}), ("2_1", {})])
    assert (points.queued, points.running) == (3, 0)
    assert [points.start_next()[0] for _ in range(2)] == ["0_1", "2_0"]
    points.stop("2_0")
    points.stop("other_0")  # of another study: a sweep's search passes every end to all of them
    assert (points.queued, points.running) == (1, 1)
    points.close(2)  # its other trial is not run
    assert points.start_next() is None
    assert points.trials() == {0: ("0_0", "0_1"), 1: ()}


def leave(folder, trial_id, state, **metrics):
    write_json(folder / "trials" / trial_id / "trial.json", {"trial_id": trial_id, "state": state})
    MetricsFile(folder / "trials" / trial_id / "metrics.jsonl").append({"updates": 4, **metrics})


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ((None, None), None),
        (("finished", "running"), None),
        (("finished", "killed"), None),
        (("finished", "finished"), Outcome("finished", [2.0, 15.0])),
        (("pruned", "running"), Outcome("pruned")),
        (("pruned", "failed"), Outcome("failed")),
    ],
)
def test_a_point_ends_with_its_last_trial_or_the_first_that_does_not_finish(tmp_path, states, expected):
    files = PointFiles(tmp_path, "abcde")
    trials = [files.trial_id(7, index) for index in range(2)]
    for index, (trial_id, state) in enumerate(zip(trials, states, strict=True)):
        if state:
            leave(tmp_path, trial_id, state, score=1.0 + 2 * index, seconds=10.0 + 10 * index)
    assert files.outcome(trials, METRICS) == expected
    assert [files.has_ended(trial_id) for trial_id in trials] == [
        state in ("finished", "pruned", "failed") for state in states
    ]


def test_a_point_without_finite_values_has_failed(tmp_path):
    files = PointFiles(tmp_path, "abcde")
    leave(tmp_path, "abcde_0000_0", "finished", score=None, seconds=1.0)
    assert files.outcome(["abcde_0000_0"], METRICS) == Outcome("failed")


def test_only_what_a_killed_driver_left_of_a_point_is_marked(tmp_path):
    for trial_id, state in (("abcde_0001_0", "running"), ("abcde_0001_1", "finished"), ("abcde_0012_0", "running")):
        leave(tmp_path, trial_id, state)
    files = PointFiles(tmp_path, "abcde")
    files.end(1)
    assert files.outcome(["abcde_0001_0"], METRICS) == Outcome("pruned")
    assert files.outcome(["abcde_0001_1"], ["updates"]) == Outcome("finished", [4.0])
    assert files.outcome(["abcde_0012_0"], METRICS) is None


@pytest.fixture
def study():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(directions=list(METRICS.values()), sampler=optuna.samplers.RandomSampler(seed=0))


def spec_of(points, choices=(0, 1, 2, 3)):
    space = {"x": optuna.distributions.CategoricalDistribution(choices)}
    return StudySpec(space, lambda params: [dict(params)], points=points, metrics=METRICS)


def test_a_repeated_point_has_the_outcome_of_the_first_and_another_is_drawn(study):
    book = StudyBook(study, spec_of(3))
    for _ in range(2):
        study.enqueue_trial({"x": 2})
    first, repeated, other = book.draw(), book.draw(), book.draw()
    assert (first.params, first.twin) == ({"x": 2}, None)
    assert (repeated.params, repeated.twin) == ({"x": 2}, 0)
    assert book.is_twin(repeated.number)
    assert other.twin is None
    assert other.params != first.params
    assert book.outcome_of_twin(repeated.number) is None  # not known yet
    outcome = Outcome("finished", [1.0, 2.0])
    book.tell(first.number, outcome)
    assert book.outcome_of_twin(repeated.number) == outcome
    book.tell(repeated.number, outcome)
    assert book.missing() == 2  # the two count once


def test_a_failed_point_is_missing_and_a_pruned_one_is_not(study):
    book = StudyBook(study, spec_of(3))
    book.enqueue([{"x": 0}, {"x": 1}])
    book.enqueue([{"x": 1}])  # known already
    book.tell(book.draw().number, Outcome("failed"))
    book.tell(book.draw().number, Outcome("pruned"))
    assert book.missing() == 2
    assert [trial.state.name for trial in study.get_trials()] == ["FAIL", "PRUNED"]


def test_another_book_of_the_same_study_knows_what_the_first_did(study):
    book = StudyBook(study, spec_of(4))
    book.enqueue([{"x": 3}, {"x": 1}, {"x": 3}])
    ended, running = book.draw(), book.draw()
    book.tell(ended.number, Outcome("finished", [1.0, 2.0]))

    again = StudyBook(study, spec_of(4))
    numbers, open_points = again.restore()
    assert numbers == [ended.number]
    assert [again.resume(point) for point in open_points] == [running]
    study.enqueue_trial({"x": 3})
    repeated = again.draw()
    assert again.outcome_of_twin(repeated.number) == Outcome("finished", [1.0, 2.0])


def test_a_point_that_the_database_failed_in_the_middle_of_is_drawn_to_its_end(study, monkeypatch):
    book = StudyBook(study, spec_of(3))
    study.enqueue_trial({"x": 2})
    study.enqueue_trial({"x": 2})
    book.draw()

    def away(*_arguments, **_settings):
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(study, "enqueue_trial", away)
        with pytest.raises(ConnectionError):
            book.draw()
    repeated = book.draw()
    assert (repeated.number, repeated.twin) == (1, 0)
    assert len(study.get_trials()) == 3  # and another waits in its place
