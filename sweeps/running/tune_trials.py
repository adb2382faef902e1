"""Trials of our own for Tune: made under ids that we choose, and the open trials of a grid as a search algorithm."""

from collections import deque
from collections.abc import Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.experiment.config_parser import _create_trial_from_spec, _make_parser
from ray.tune.search import SearchAlgorithm


class TrialFactory:
    """Makes Tune's trials from our flat ones; the ids are ours, so that a trial finds its files after any restart."""

    def __init__(self) -> None:
        self._parser = _make_parser()
        self._spec: dict[str, Any] = {}

    def configure(self, experiments: Any) -> None:
        """Take what all trials share from the experiment that Tune passes to ``add_configurations``."""
        self._spec = (experiments[0] if isinstance(experiments, list) else experiments).spec

    def make(self, trial_id: str, trial: Mapping[str, Any]) -> Trial:
        """Tune's trial for our flat one."""
        spec = {**self._spec, "config": {**self._spec["config"], "trial": dict(trial)}}
        made: Trial = _create_trial_from_spec(spec, self._parser, evaluated_params=dict(trial), trial_id=trial_id)
        return made


class TrialQueue(SearchAlgorithm):
    """Gives Tune the trials of a grid that are not done yet, in the plan's order.

    Tune's own state of a sweep is not read: whatever became of it, the result files say which trials are done, and each
    of the others finds its last checkpoint by its id.

    Args:
        trials: the trials to run, by id.
    """

    def __init__(self, trials: Mapping[str, Mapping[str, Any]]) -> None:
        self._waiting = deque(trials.items())
        self._count = len(trials)
        self._factory = TrialFactory()

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its configuration

    @property
    def total_samples(self) -> int:
        return self._count

    def add_configurations(self, experiments: Any) -> None:
        self._factory.configure(experiments)

    def next_trial(self) -> Trial | None:
        return self._factory.make(*self._waiting.popleft()) if self._waiting else None

    def is_finished(self) -> bool:
        return bool(self._finished) or not self._waiting
