"""The trials of a plan as Tune's ``search_alg``."""

from collections import deque
from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.experiment.config_parser import _create_trial_from_spec, _make_parser
from ray.tune.search import SearchAlgorithm

from spin_rl.sweeps.planning.plan import SweepPlan
from spin_rl.sweeps.running.completion import open_trials


class PlannedTrials(SearchAlgorithm):
    """Gives Tune the trials of a plan that are not done yet, in the plan's order.

    Tune's own notes of a sweep are not read: whatever became of them, the files of the results say which trials are
    done, and each of the others finds its last checkpoint under its id.
    """

    def __init__(self, plan: SweepPlan, folder: Path) -> None:
        self._open = deque(open_trials(folder, plan).items())
        self._count = len(self._open)
        self._parser = _make_parser()
        self._spec: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its configuration

    @property
    def total_samples(self) -> int:
        return self._count

    def add_configurations(self, experiments: Any) -> None:
        self._spec = (experiments[0] if isinstance(experiments, list) else experiments).spec

    def next_trial(self) -> Trial | None:
        if not self._open:
            return None
        trial_id, params = self._open.popleft()
        spec = {**self._spec, "config": {**self._spec["config"], "trial": dict(params)}}
        made: Trial = _create_trial_from_spec(spec, self._parser, evaluated_params=dict(params), trial_id=trial_id)
        return made

    def is_finished(self) -> bool:
        return bool(self._finished) or not self._open
