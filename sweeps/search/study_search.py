"""Optuna as Tune's search: a study draws points, Tune runs a point's trials, one a seed, the files give its values.

    study, in its database            Tune and the sweep's files
    point 0   COMPLETE (54.2, 310)    trials/<key>_0000_0  finished    mean over the seeds
                                      trials/<key>_0000_1  finished
    point 1   RUNNING                 trials/<key>_0001_0  running

The values of a point are means over its seeds, and every point has the same seeds. If each of Optuna's trials were one
seed, the front would collect the luckiest seeds, and importances would measure seeds as well.

Tune keeps no state of a search. However a driver ended, the study says which points are open, and the files say which
of their trials have ended: these are reported to the study, the others resume under their ids from their checkpoints.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.study import Study
from ray.tune.experiment import Trial
from ray.tune.search.search_algorithm import SearchAlgorithm
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from spin_rl.errors import UserError
from spin_rl.sweeps.running.tune_trials import TrialFactory
from spin_rl.sweeps.search.open_points import OpenPoints, Queued
from spin_rl.sweeps.search.point_files import PointFiles
from spin_rl.sweeps.search.studies import RepeatableSampler, open_study, study_key, study_name, without_password
from spin_rl.sweeps.search.study_book import DrawnPoint, StudyBook
from spin_rl.sweeps.search.study_spec import StudySpec

logger = logging.getLogger(__name__)


class StudySearch(SearchAlgorithm):
    """Runs one study as Tune's ``search_alg``; a context manager, as it locks the study's files for its process.

    A new Tuner with it continues where a killed one stopped; ``Tuner.restore`` is not used.

    Args:
        spec: what to search.
        name: the sweep's name.
        settings: what else makes it this sweep.
        folder: the sweep's folder, where ``ResultsCallback`` writes.
        url: the database of the study.
        at_once: trials that run at the same time; without the limit Tune would draw points before there is room.
    """

    def __init__(
        self, spec: StudySpec, *, name: str, settings: Mapping[str, Any], folder: Path, url: URL, at_once: int = 1
    ) -> None:
        self.spec, self.folder, self.at_once = spec, folder, at_once
        self.study_name = study_name(name, {**settings, **spec.identity()})
        self.place = without_password(url)
        self.ended = False  # whether it was complete at its exit
        key = study_key(self.study_name)
        self._url = url
        self._lock = FileLock(folder / f".search-{key}.lock")
        self._files, self._points, self._factory = PointFiles(folder, key), OpenPoints(), TrialFactory()
        self._book: StudyBook  # from its entry on
        self._left = 0  # points that may still be drawn
        self._in_trouble = False  # the database did not answer the last time

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its configuration; the state is in the study, and an address may hold a password

    def __enter__(self) -> "StudySearch":
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"Another process runs the search in {self.folder}; wait for its end or give this one another name."
            ) from None
        try:
            self._restore()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self._tell_ended()
            self.ended = self.complete
        except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
            self._warn(error)
        finally:
            self._lock.release()

    @property
    def study(self) -> Study:
        """Optuna's study, from the entry on."""
        return self._book.study

    @property
    def complete(self) -> bool:
        """Whether every point has been tried to its end; failed ones do not count."""
        return not self._points.trials() and self._book.missing() == 0

    @property
    def running(self) -> int:
        """Trials that were given to Tune and have not ended."""
        return self._points.running

    @property
    def total_samples(self) -> int:
        """Trials that are still to be run, approximately: points that repeat others need none."""
        return self._points.queued + self._left * self.spec.seeds

    def add_configurations(self, experiments: Any) -> None:
        self._factory.configure(experiments)

    def next_trial(self) -> Trial | None:
        drawn = self.draw()
        return self._factory.make(*drawn) if drawn else None

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:  # noqa: ARG002
        # its result is read when the next trial is asked for: the files are written after this call
        self._points.stop(trial_id)

    def is_finished(self) -> bool:
        return bool(self._finished) or (not self._points.queued and self._left <= 0)

    def draw(self) -> Queued | None:
        """The next trial and its id; None as long as there is no room for one, and at the end."""
        try:
            self._tell_ended()
            if self._points.running >= self.at_once:
                return None
            while not self._points.queued and self._left > 0:
                point = self._book.draw()
                self._open(point)
                self._left -= point.twin is None
                self._tell_ended()
            self._in_trouble = False
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            self._warn(error)  # Tune asks again, and what ends until then is in the files
            return None
        return self._points.start_next()

    def _restore(self) -> None:
        """Open the study, and bring it and the files into agreement."""
        spec = self.spec
        sampler = RepeatableSampler(spec.seed, spec.startup)
        study = open_study(self._url, self.study_name, list(spec.metrics.values()), sampler)
        study.set_user_attr("values", {name: list(values) for name, values in spec.values.items()})
        self._book = StudyBook(study, spec)
        self._book.enqueue(spec.grid() or spec.first)
        ended, running = self._book.restore()
        self._files.check({*ended, *(trial.number for trial in running)}, self.place)
        for number in ended:
            self._files.end(number)
        for trial in running:  # of a killed driver, as this process holds the lock
            self._open(self._book.resume(trial))
        opened = [number for number in self._points.trials() if not self._book.is_twin(number)]
        self._left = max(0, self._book.missing() - len(opened))
        self._tell_ended()

    def _open(self, point: DrawnPoint) -> None:
        """Queue the trials of a point that have not ended."""
        made = [] if point.twin is not None else self.spec.make_trials(point.params)
        trials = {self._files.trial_id(point.number, index): trial for index, trial in enumerate(made)}
        queued = [(trial_id, trial) for trial_id, trial in trials.items() if not self._files.has_ended(trial_id)]
        self._points.open(point.number, list(trials), queued)

    def _tell_ended(self) -> None:
        """Tell the study which of its open points have ended, according to the files."""
        for number, trials in self._points.trials().items():
            if self._book.is_twin(number):
                outcome = self._book.outcome_of_twin(number)
            else:
                outcome = self._files.outcome(trials, self.spec.metrics)
            if outcome:
                self._book.tell(number, outcome)
                self._points.close(number)

    def _warn(self, error: Exception) -> None:
        if not self._in_trouble:
            self._in_trouble = True
            logger.warning(
                "The study storage %s does not answer (%s); running trials continue, new ones wait.",
                self.place,
                type(error).__name__,
            )
