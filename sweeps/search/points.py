"""Optuna as Tune's search: a study asks for points, Tune runs a point's trials, one a seed, the files tell the study.

    study, in its database            Tune and the sweep's files
    point 0   COMPLETE (54.2, 310)    trials/<key>_0000_0  finished    mean over the seeds
                                      trials/<key>_0000_1  finished
    point 1   RUNNING                 trials/<key>_0001_0  running

What a point gave is the mean over its seeds, and every point has the same seeds. Were each of Optuna's trials one seed,
the front would gather the luckiest seeds, and importances would measure seeds, too.

Tune keeps no state of a search. After any end of a driver the study says which points are open and the files say how
their trials stand: what is finished is told, what is not runs on, under its old id and so from its own checkpoint.
"""

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.trial import TrialState
from ray.tune.experiment import Experiment, Trial
from ray.tune.experiment.config_parser import _create_trial_from_spec, _make_parser
from ray.tune.search.search_algorithm import SearchAlgorithm
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from spin_rl.errors import UserError
from spin_rl.platform.common.identity import identity_key
from spin_rl.sweeps.search.files import ENDS, PointFiles
from spin_rl.sweeps.search.plan import Params, SearchPlan, key_of
from spin_rl.sweeps.search.studies import RepeatableSampler, open_study, study_name, suggest, without_password

logger = logging.getLogger(__name__)


class PointSearch(SearchAlgorithm):
    """Runs a ``SearchPlan`` as Tune's ``search_alg``; ``with`` it, as it holds the sweep's folder for its process.

    A new Tuner with it goes on where a killed one stood; ``Tuner.restore`` is not for it.

    Args:
        plan: what to search.
        name: the sweep's name.
        settings: what else makes it this sweep.
        folder: the sweep's folder, where ``ResultsCallback`` writes.
        url: the database of the study.
        at_once: trials that run at the same time; Tune would draw points before there is room for them.
    """

    def __init__(
        self, plan: SearchPlan, *, name: str, settings: Mapping[str, Any], folder: Path, url: URL, at_once: int = 1
    ) -> None:
        self.plan, self.folder, self.at_once = plan, folder, at_once
        self.study_name = study_name(name, {**settings, **plan.settings()})
        self.place = without_password(url)
        key = identity_key({"study": self.study_name})[:5]
        self._files = PointFiles(folder, key)
        self._url = url
        self.study: Any = None
        self._lock = FileLock(folder / f".search-{key}.lock")
        self._queue: deque[tuple[str, Mapping[str, Any]]] = deque()
        self._open: dict[int, tuple[str, ...]] = {}  # points that the study waits for, and their trials
        self._known: dict[str, int] = {}  # points by their parameters
        self._twins: dict[int, int] = {}  # points that repeat an earlier one
        self._results: dict[int, tuple[TrialState, Sequence[float] | None]] = {}  # of the points that are told
        self._drawing: optuna.Trial | None = None  # a point that the database failed in the middle of
        self._running: set[str] = set()
        self._left = 0  # points that may still be asked for
        self._parser = _make_parser()
        self._spec: dict[str, Any] = {}
        self._in_trouble = False
        self.ended = False  # complete when its process let go of it

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its configuration; what counts is in the study, and an address may hold a password

    def __enter__(self) -> "PointSearch":
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"Another process runs the search in {self.folder}; wait for its end or give this one another name."
            ) from None
        try:
            self._begin()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._settle()
            self.ended = self.complete
        except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
            self._warn(error)
        finally:
            self._lock.release()

    @property
    def complete(self) -> bool:
        """Whether every point has been tried to its end; failed ones do not count."""
        return not self._open and self._missing() == 0

    @property
    def running(self) -> int:
        """Trials that were given to Tune and have not ended."""
        return len(self._running)

    @property
    def total_samples(self) -> int:
        """Trials that are still to be run, about; points that repeat others need none."""
        return len(self._queue) + self._left * self.plan.seeds

    # What Tune calls

    def add_configurations(self, experiments: Any) -> None:
        experiment: Experiment = experiments[0] if isinstance(experiments, list) else experiments
        self._spec = experiment.spec

    def next_trial(self) -> Trial | None:
        drawn = self.draw()
        if drawn is None:
            return None
        trial_id, trial = drawn
        spec = deepcopy(self._spec)
        spec["config"] = {**spec["config"], "trial": dict(trial)}
        made: Trial = _create_trial_from_spec(spec, self._parser, evaluated_params=dict(trial), trial_id=trial_id)
        return made

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:  # noqa: ARG002
        # What the trial gave is read when the next is asked for: its files are written after this call.
        self._running.discard(trial_id)

    def is_finished(self) -> bool:
        return bool(self._finished) or (not self._queue and self._left <= 0)

    # Between the study and the files

    def draw(self) -> tuple[str, Mapping[str, Any]] | None:
        """The next trial and its id; None while there is no room for one, and in the end."""
        try:
            self._settle()
            if len(self._running) >= self.at_once:
                return None
            while not self._queue and self._left > 0:
                self._drawing = self._drawing or self.study.ask()
                self._take_up(self._drawing)
                self._left -= self._drawing.number not in self._twins
                self._drawing = None
                self._settle()
            self._in_trouble = False
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            self._warn(error)  # Tune asks again, and what is done till then is in the files
            return None
        if not self._queue:
            return None
        trial_id, trial = self._queue.popleft()
        self._running.add(trial_id)
        return trial_id, trial

    def _begin(self) -> None:
        """Open the study, and bring it and the files into step."""
        plan = self.plan
        sampler = RepeatableSampler(plan.seed, plan.startup)
        self.study = open_study(self._url, self.study_name, list(plan.objectives.values()), sampler)
        self.study.set_user_attr("values", {name: list(values) for name, values in plan.values.items()})
        self._enqueue(plan.grid() or plan.first)
        asked = [trial for trial in self.study.get_trials() if trial.state != TrialState.WAITING]
        self._files.check({trial.number for trial in asked}, self.place)
        for trial in asked:
            if trial.state != TrialState.RUNNING:
                self._note(trial)
        for trial in asked:
            if trial.state == TrialState.RUNNING:
                # of a dead driver, as this one holds the lock; taken up with the values that it has in the database
                self._take_up(optuna.trial.Trial(self.study, trial._trial_id))
        self._left = max(0, self._missing() - len(self._open.keys() - self._twins.keys()))
        self._settle()

    def _enqueue(self, points: Sequence[Params]) -> None:
        """Have the study give these points before it draws any, but for those that it gave."""
        given = [trial for trial in self.study.get_trials() if trial.state != TrialState.FAIL]
        known = {key_of(trial.system_attrs.get("fixed_params", trial.params)) for trial in given}
        for point in points:
            if key_of(point) not in known:
                self.study.enqueue_trial(dict(point))

    def _missing(self) -> int:
        """Points that are still to be told, each counted once; for one that failed another takes its place."""
        told = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        if everything := self.plan.grid():
            return len({key_of(point) for point in everything} - {key_of(trial.params) for trial in told})
        return self.plan.points - len({key_of(trial.params) for trial in told})

    def _take_up(self, point: optuna.Trial) -> None:
        """Queue the trials of a point that are not finished yet."""
        params = suggest(point, self.plan.space)
        twin = self._known.setdefault(key_of(params), point.number)
        if twin != point.number:
            self._twins[point.number] = twin
            self._open[point.number] = ()
            self._enqueue(self.plan.instead(point.number, self._known))
            return
        trials = {
            self._files.trial_id(point.number, place): trial
            for place, trial in enumerate(self.plan.make_trials(params))
        }
        self._open[point.number] = tuple(trials)
        for trial_id, trial in trials.items():
            if self._files.state(trial_id) not in ENDS:
                self._queue.append((trial_id, trial))

    def _note(self, told: Any) -> None:
        """Remember a point that is told, and end its trials that a dead driver left behind."""
        if told.state != TrialState.FAIL:
            self._known.setdefault(key_of(told.params), told.number)
            self._results[told.number] = (told.state, told.values)
        self._files.end(told.number)

    def _settle(self) -> None:
        """Tell the study what the files say of its open points."""
        for number, trials in list(self._open.items()):
            if number in self._twins:  # the same parameters and seeds give the same results: there is nothing to run
                if self._twins[number] in self._results:
                    self._tell(number, *self._results[self._twins[number]])
                continue
            states = [self._files.state(trial_id) for trial_id in trials]
            if "failed" in states:
                self._tell(number, TrialState.FAIL)
            elif "pruned" in states:
                self._tell(number, TrialState.PRUNED)
            elif all(state == "finished" for state in states):
                values = self._files.values(trials, self.plan.objectives)
                self._tell(number, TrialState.COMPLETE if values else TrialState.FAIL, values)

    def _tell(self, number: int, state: TrialState, values: Sequence[float] | None = None) -> None:
        self.study.tell(number, values, state=state, skip_if_finished=True)  # an answer may have been lost
        self._results[number] = (state, values)
        trials = self._open.pop(number)
        self._queue = deque(entry for entry in self._queue if entry[0] not in trials)

    def _warn(self, error: Exception) -> None:
        if not self._in_trouble:
            self._in_trouble = True
            logger.warning(
                "The study storage %s does not answer (%s); trials at work go on, new ones wait.",
                self.place,
                type(error).__name__,
            )
