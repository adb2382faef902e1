"""A study with what follows from it: which points there were, which repeat others, and how they ended."""

from collections.abc import Sequence
from typing import NamedTuple

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from spin_rl.sweeps.search.point_files import Outcome
from spin_rl.sweeps.search.studies import suggest
from spin_rl.sweeps.search.study_spec import Params, StudySpec, key_of

_STATES = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
_ENDS = {state: name for name, state in _STATES.items()}


class DrawnPoint(NamedTuple):
    """A point of the study; ``twin`` is the number of the earlier point with the same parameters, if there is one."""

    number: int
    params: Params
    twin: int | None


class StudyBook:
    """Draws the points of a study and records their outcomes; everything it knows can be read from the study again.

    Any method may raise an error of SQLAlchemy or Optuna if the database does not answer. It can be called again then.

    Args:
        study: the study in its database.
        spec: what it searches over.
    """

    def __init__(self, study: Study, spec: StudySpec) -> None:
        self.study, self._spec = study, spec
        self._numbers: dict[str, int] = {}  # of the first point with each choice of parameters
        self._twins: dict[int, int] = {}  # points that repeat an earlier one
        self._outcomes: dict[int, Outcome] = {}
        self._drawing: optuna.Trial | None = None  # a point that the database failed in the middle of

    def restore(self) -> tuple[list[int], list[FrozenTrial]]:
        """Read the points that were drawn before.

        Returns:
            The numbers of those that have ended, and those that have not, for ``resume``.
        """
        drawn = [trial for trial in self.study.get_trials() if trial.state != TrialState.WAITING]
        ended = [trial for trial in drawn if trial.state != TrialState.RUNNING]
        for trial in ended:
            if trial.state != TrialState.FAIL:
                self._numbers.setdefault(key_of(trial.params), trial.number)
                self._outcomes[trial.number] = Outcome(_ENDS[trial.state], trial.values)
        return [trial.number for trial in ended], [trial for trial in drawn if trial.state == TrialState.RUNNING]

    def resume(self, drawn: FrozenTrial) -> DrawnPoint:
        """A point that was drawn by a killed process, with the values that it has in the database."""
        return self._point_of(optuna.trial.Trial(self.study, drawn._trial_id))

    def enqueue(self, points: Sequence[Params]) -> None:
        """Have the study give these points before it draws any, except those that it gave already."""
        given = [trial for trial in self.study.get_trials() if trial.state != TrialState.FAIL]
        known = {key_of(trial.system_attrs.get("fixed_params", trial.params)) for trial in given}
        for point in points:
            if key_of(point) not in known:
                self.study.enqueue_trial(dict(point))

    def draw(self) -> DrawnPoint:
        """The next point; one that the database failed in the middle of is completed first."""
        self._drawing = self._drawing or self.study.ask()
        point = self._point_of(self._drawing)
        self._drawing = None
        return point

    def is_twin(self, number: int) -> bool:
        """Whether a point repeats an earlier one."""
        return number in self._twins

    def outcome_of_twin(self, number: int) -> Outcome | None:
        """The outcome of the point that ``number`` repeats: the same parameters and seeds give the same results."""
        return self._outcomes.get(self._twins[number])

    def tell(self, number: int, outcome: Outcome) -> None:
        """Record how a point ended."""
        # a repeated call does no harm: the answer to the first may have been lost
        self.study.tell(number, outcome.values, state=_STATES[outcome.state], skip_if_finished=True)
        self._outcomes[number] = outcome

    def missing(self) -> int:
        """Points that still have to end, each choice of parameters counted once; a failed one is replaced."""
        told = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        ended = {key_of(trial.params) for trial in told}
        if grid := self._spec.grid():
            return len({key_of(point) for point in grid} - ended)
        return self._spec.points - len(ended)

    def _point_of(self, trial: optuna.Trial) -> DrawnPoint:
        """The point of a trial; if it repeats an earlier one, another is enqueued in its place."""
        params = suggest(trial, self._spec.space)
        first = self._numbers.setdefault(key_of(params), trial.number)
        if first == trial.number:
            return DrawnPoint(trial.number, params, None)
        self._twins[trial.number] = first
        self.enqueue(self._spec.replacement(trial.number, self._numbers))
        return DrawnPoint(trial.number, params, first)
