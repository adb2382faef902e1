"""ASHA over the points of a search: rungs in policy updates, restored from the trials' files.

Ray's ASHA decides; this module says which trials are compared: those of the same problem and seed at other points, as
they share everything but the parameters. A low score alone does not end a trial: if no trial at its rung scored at
least as much in at most as many seconds, it may be on the front and continues. The first trial that is ended early ends
its point.

Tune does not restore a scheduler's rungs (ray#30838). They are filled from the trials' files, in the order in which the
results came, so that a resumed search decides as an uninterrupted one.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from spin_rl.errors import UserError
from spin_rl.platform.results.files import MetricsFile
from spin_rl.sweeps.running.completion import trial_folder, trial_records
from spin_rl.sweeps.search.point_files import point_of

SCORE, SECONDS = "eval/normalized_score", "time/total_seconds"


class PointASHA(FIFOScheduler):
    """Asynchronous successive halving (arXiv 1810.05934) for the trials of a ``StudySearch``.

    Args:
        folder: the sweep's folder, with the results so far.
        first_rung: policy updates that every trial makes.
        most: policy updates of a whole trial.
        reduction: one in so many of the trials at a rung continues, and the next rung is so many times as far.

    Raises:
        UserError: there is no rung before a trial's end.
    """

    def __init__(self, folder: Path, *, first_rung: int, most: int, reduction: float = 3) -> None:
        super().__init__()
        if not 0 < first_rung < most or reduction <= 1:
            raise UserError(
                f"ASHA's first rung ({first_rung:,} updates) must be after update 0 and before a trial's end "
                f"({most:,}), and its reduction ({reduction:g}) above 1."
            )
        self._settings = {"grace_period": first_rung, "max_t": most, "reduction_factor": reduction}
        self._ashas: dict[tuple[str, Any], ASHAScheduler] = {}
        self._rungs = [first_rung * reduction**k for k in range(64) if first_rung * reduction**k < most]
        self._seen: dict[tuple[Any, ...], dict[str, tuple[float, float]]] = defaultdict(dict)
        self._ended: set[str] = set()  # points
        self._replay(folder)

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self._asha(trial).on_trial_add(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:
        point = point_of(trial.trial_id)
        if point in self._ended:
            return str(TrialScheduler.STOP)
        # a score counts for the update that was evaluated, an earlier one where evaluation runs beside the training
        measured = result.get("eval/updates")
        result = {**result, "updates": result["updates"] if measured is None else measured}
        decision = self._asha(trial).on_trial_result(tune_controller, trial, result)
        if self._is_stopped(trial, result, decision):
            self._ended.add(point)
            return str(TrialScheduler.STOP)
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> None:
        """Nothing: trials reported at their rungs."""

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Nothing, for the same reason."""

    def debug_string(self) -> str:
        return f"ASHA for each seed; {len(self._ended)} points ended early"

    def _asha(self, trial: Any) -> ASHAScheduler:
        peers = _peers(trial)
        if peers not in self._ashas:
            self._ashas[peers] = ASHAScheduler(
                "updates", metric=SCORE, mode="max", stop_last_trials=False, **self._settings
            )
        return self._ashas[peers]

    def _is_stopped(self, trial: Any, result: Mapping[str, Any], decision: str) -> bool:
        """Whether the trial ends, by ASHA's decision and by its seconds; records its values at its rung."""
        passed = [rung for rung in self._rungs if rung <= result["updates"]]
        if not passed or result.get(SCORE) is None:
            return False
        seen = self._seen[*_peers(trial), passed[-1]]
        if trial.trial_id in seen:
            return False
        own = float(result[SCORE]), float(result.get(SECONDS) or 0.0)
        dominated = any(score >= own[0] and seconds <= own[1] for score, seconds in seen.values())
        seen[trial.trial_id] = own
        return decision == TrialScheduler.STOP and dominated

    def _replay(self, folder: Path) -> None:
        """Process the results in the files as if they came now."""
        results: list[tuple[float, Any, dict[str, Any]]] = []
        for record in trial_records(folder):
            trial = SimpleNamespace(trial_id=record["trial_id"], config={"trial": record["params"]})
            if record["state"] == "pruned":
                self._ended.add(point_of(trial.trial_id))
            self.on_trial_add(None, trial)
            lines, _ = MetricsFile(trial_folder(folder, trial.trial_id) / "metrics.jsonl").read_from(0)
            results += [(line["timestamp"], trial, line) for line in lines]
        ended, self._ended = self._ended, set()
        for _, trial, line in sorted(results, key=lambda entry: entry[0]):
            self.on_trial_result(None, trial, line)
        self._ended |= ended


def _peers(trial: Any) -> tuple[str, Any]:
    """What trials that are compared have in common: the study, which is a problem's, and the seed."""
    return trial.trial_id.partition("_")[0], trial.config["trial"]["seed"]
