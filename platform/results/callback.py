"""The Tune callback that writes a sweep's files (`platform.results`) while the sweep runs."""

import logging
import re
import time
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

from ray.tune import Callback
from ray.tune.experiment import Trial

from spin_rl.platform.common.json_files import read_json, write_json
from spin_rl.platform.results.files import MetricsFile, flat_metrics, start_sweep

logger = logging.getLogger(__name__)

Describe = Callable[[Trial], Mapping[str, Any]]
"""Returns a trial's flat parameters: algorithm, objective, task, bins, level, seed, preset, asm_steps, updates, ...

`updates` is the trial's budget: a trial that is stopped before it counts as pruned.
"""

P = ParamSpec("P")


def never_raises(method: Callable[P, None]) -> Callable[P, None]:
    """Log an error in a callback instead of ending the sweep with it."""

    @wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception:
            logger.exception("%s failed; the sweep continues.", method.__qualname__)

    return guarded


class ResultsCallback(Callback):
    """Writes each trial's parameters, state and metrics as Tune reports them.

    Restored with its sweep by Tune, it continues the same files: they hold all its state.

    Args:
        folder: the sweep's folder; ``sweep.json`` is written with its name if `start_sweep` has not written it.
        describe: returns the flat parameters of a trial; picklable, as Tune saves its callbacks with the sweep.
    """

    def __init__(self, folder: str | Path, describe: Describe) -> None:
        self.folder = Path(folder)
        self._describe = describe
        self._files: dict[str, MetricsFile] = {}
        self._cut_short: set[str] = set()  # trials that were stopped before their end

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "_describe": self._describe, "_files": {}, "_cut_short": set()}

    @never_raises
    def setup(self, **_info: Any) -> None:
        if not (self.folder / "sweep.json").is_file():
            start_sweep(self.folder, name=self.folder.name)
        self._update_sweep(state="running", ended=None)

    @never_raises
    def on_trial_start(self, trial: Trial, **_info: Any) -> None:
        record = self._record(trial)
        starts = {"started": record["started"] or time.time(), "starts": record["starts"] + 1}
        write_json(self._path(trial.trial_id), {**record, **starts, "state": "running", "error": None, "ended": None})

    @never_raises
    def on_trial_result(self, trial: Trial, result: dict[str, Any], **_info: Any) -> None:
        metrics = flat_metrics(result)
        if "updates" not in metrics:
            return
        trial_id = trial.trial_id
        if result.get("done") and not self._reached_its_end(trial, metrics):
            self._cut_short.add(trial_id)
        if trial_id not in self._files:
            self._files[trial_id] = MetricsFile(self._path(trial_id).with_name("metrics.jsonl"))
        self._files[trial_id].append({"updates": metrics.pop("updates"), "timestamp": time.time(), **metrics})

    @never_raises
    def on_trial_complete(self, trial: Trial, **_info: Any) -> None:
        self._end(self._record(trial), "pruned" if trial.trial_id in self._cut_short else "finished")

    @never_raises
    def on_trial_error(self, trial: Trial, **_info: Any) -> None:
        self._end(self._record(trial), "failed", _error_text(trial))

    @never_raises
    def on_experiment_end(self, trials: list[Trial], **_info: Any) -> None:
        # A trial without an end was interrupted with the sweep; on restore Tune resumes it, or a copy of it.
        for path in self.folder.glob("trials/*/trial.json"):
            if self._state(path) == "running":
                self._end(read_json(path), "killed")
        ended = all(self._state(self._path(trial.trial_id)) in ("finished", "pruned", "failed") for trial in trials)
        self._update_sweep(state="finished" if ended else "killed", ended=time.time())

    def _path(self, trial_id: str) -> Path:
        return self.folder / "trials" / trial_id / "trial.json"

    def _state(self, path: Path) -> str | None:
        return read_json(path)["state"] if path.is_file() else None

    def _record(self, trial: Trial) -> dict[str, Any]:
        """What is known of a trial; one that fails while it is built was never started."""
        path = self._path(trial.trial_id)
        record = read_json(path) if path.is_file() else {"trial_id": trial.trial_id, "started": None, "starts": 0}
        try:
            return {**record, "params": dict(self._describe(trial))}
        except Exception:
            logger.exception("The parameters of trial %s could not be determined.", trial.trial_id)
            return {"params": {}, **record}

    def _end(self, record: Mapping[str, Any], state: str, error: str | None = None) -> None:
        trial_id = record["trial_id"]
        write_json(self._path(trial_id), {**record, "state": state, "error": error, "ended": time.time()})
        self._files.pop(trial_id, None)
        self._cut_short.discard(trial_id)

    def _update_sweep(self, **changes: Any) -> None:
        path = self.folder / "sweep.json"
        write_json(path, {**read_json(path), **changes})

    def _reached_its_end(self, trial: Trial, metrics: Mapping[str, Any]) -> bool:
        """Whether a trial that is done has reached its budget: Tune does not report that a scheduler stopped it."""
        limits = dict(trial.stopping_criterion or {})
        budget = read_json(self._path(trial.trial_id))["params"].get("updates")
        if budget is not None:
            limits.setdefault("updates", budget)
        return any(metrics.get(name) is not None and metrics[name] >= limit for name, limit in limits.items())


def _error_text(trial: Trial) -> str:
    """The error of a failed trial, without the terminal colours that Ray adds."""
    file = trial.error_file  # not yet among the results when the callback is called
    text = Path(file).read_text(encoding="utf-8", errors="replace") if file and Path(file).is_file() else ""
    return re.sub(r"\x1b\[[0-9;]*m", "", text).strip() or "The trial failed without a message."
