"""ASHA over the points of a search: rungs in policy updates, like compared with like, nothing lost with its process.

Ray's ASHA decides; this says who is compared with whom. A trial meets the trials of the same problem and seed at other
points, as these share everything but the parameters. Its score alone does not end it: where no trial at its rung was at
least as good for no more seconds, it may stand on the front, and it goes on. The first trial that ends takes its point
along.

Tune does not give a scheduler its rungs back (ray#30838). They are filled from the trials' files, in the order in which
the results came, so that a search that goes on decides as one that was never cut off.
"""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler

from spin_rl.errors import UserError
from spin_rl.platform.common.json_files import read_json
from spin_rl.platform.results.files import MetricsFile
from spin_rl.sweeps.search.files import point_of

SCORE, SECONDS = "eval/normalized_score", "time/total_seconds"


class PointASHA(FIFOScheduler):
    """Asynchronous successive halving (arXiv 1810.05934) for the trials of a ``PointSearch``.

    Args:
        folder: the sweep's folder; what it holds already counts.
        first_rung: policy updates that every trial gets.
        most: policy updates of a whole trial.
        reduction: of the trials at a rung one in so many goes on, and the next rung lies so many times as far.

    Raises:
        UserError: there is no rung before a trial's end.
    """

    def __init__(self, folder: Path, *, first_rung: int, most: int, reduction: float = 3) -> None:
        super().__init__()
        if not 0 < first_rung < most or reduction <= 1:
            raise UserError(
                f"ASHA's first rung ({first_rung:,} updates) lies after update 0 and before a trial's end "
                f"({most:,}), and its reduction ({reduction:g}) is above 1."
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
        # a score counts for the update that it was measured at, which lies back where evaluation runs beside training
        measured = result.get("eval/updates")
        result = {**result, "updates": result["updates"] if measured is None else measured}
        decision = self._asha(trial).on_trial_result(tune_controller, trial, result)
        if self._is_stopped(trial, result, decision):
            self._ended.add(point)
            return str(TrialScheduler.STOP)
        return str(TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> None:
        """Nothing: a rung holds what trials had there, and they told it there."""

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
        """Whether ASHA's decision stands; notes what the trial has at its rung."""
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
        """Take up the results in the files as if they came now."""
        results: list[tuple[float, Any, dict[str, Any]]] = []
        for path in sorted(folder.glob("trials/*/trial.json")):
            record = read_json(path)
            trial = SimpleNamespace(trial_id=record["trial_id"], config={"trial": record["params"]})
            if record["state"] == "pruned":
                self._ended.add(point_of(trial.trial_id))
            self.on_trial_add(None, trial)
            lines, _ = MetricsFile(path.with_name("metrics.jsonl")).read_from(0)
            results += [(line["timestamp"], trial, line) for line in lines]
        ended, self._ended = self._ended, set()
        for _, trial, line in sorted(results, key=lambda entry: entry[0]):
            self.on_trial_result(None, trial, line)
        self._ended |= ended


def _peers(trial: Any) -> tuple[str, Any]:
    """What a trial has in common with those that it is compared with: the study, which is a problem's, and the seed."""
    return trial.trial_id.partition("_")[0], trial.config["trial"]["seed"]
