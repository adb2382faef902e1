"""Tracking of a sweep in MLflow while it runs: a Tune callback that only signals changes, and a thread that syncs them.

Why not Ray's `MLflowLoggerCallback`: it has no parent run, sends one request per value from Tune's event loop, marks
trials that a scheduler stopped as FINISHED, and starts new runs when a sweep is restored.
"""

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial

from spin_rl.platform.results.callback import Describe, ResultsCallback, never_raises
from spin_rl.platform.tracking.mirror import Mirror, remember_tracking

logger = logging.getLogger(__name__)

_PAUSE = 1.0  # seconds between two syncs, so that values are sent in batches
_LONGEST_WAIT = 30.0  # seconds between two attempts while the store does not answer


def sweep_callbacks(
    folder: str | Path,
    describe: Describe,
    *,
    tracking_uri: str,
    experiment: str,
    tags: Mapping[str, str] | None = None,
) -> list[Callback]:
    """The callbacks of a sweep, in the required order: first the files, then MLflow, which is synced from them."""
    return [ResultsCallback(folder, describe), MLflowCallback(folder, tracking_uri, experiment, tags)]


class MLflowCallback(Callback):
    """Keeps the sweep's runs in MLflow up to date with the files that `ResultsCallback` writes.

    Has to come after `ResultsCallback` in the list of callbacks. It waits for the store only at the end of the sweep,
    for at most ``flush_seconds``; what could not be sent by then is sent when the sweep is resumed, or by
    ``spin-rl report SWEEP --sync``.

    Args:
        folder: the sweep's folder.
        tracking_uri: MLflow's store.
        experiment: name of the experiment that holds the runs.
        tags: further tags of every run.
        flush_seconds: longest wait for the store at the end of the sweep.
    """

    def __init__(
        self,
        folder: str | Path,
        tracking_uri: str,
        experiment: str,
        tags: Mapping[str, str] | None = None,
        flush_seconds: float = 60.0,
    ) -> None:
        self._settings = (Path(folder), tracking_uri, experiment, dict(tags or {}))
        self._flush_seconds = flush_seconds
        self._thread: MirrorThread | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {
            **self.__dict__,
            "_thread": None,
        }  # Tune pickles its callbacks with the sweep; a thread cannot be pickled

    @never_raises
    def setup(self, **_info: Any) -> None:
        folder, tracking_uri, experiment, tags = self._settings
        remember_tracking(folder, tracking_uri, experiment, tags)
        self._thread = MirrorThread(Mirror(*self._settings))
        self._thread.start()

    @never_raises
    def on_trial_start(self, trial: Trial, **_info: Any) -> None:
        self._signal(trial)

    @never_raises
    def on_trial_result(self, trial: Trial, **_info: Any) -> None:
        self._signal(trial)

    @never_raises
    def on_trial_complete(self, trial: Trial, **_info: Any) -> None:
        self._signal(trial)

    @never_raises
    def on_trial_error(self, trial: Trial, **_info: Any) -> None:
        self._signal(trial)

    @never_raises
    def on_experiment_end(self, **_info: Any) -> None:
        if self._thread is not None and not self._thread.finish(self._flush_seconds):
            folder, tracking_uri, *_ = self._settings
            logger.warning(
                "MLflow at %s has not received everything yet, but nothing is lost: send it with "
                "`spin-rl report %s --sync`.",
                tracking_uri,
                folder,
            )

    def _signal(self, trial: Trial) -> None:
        if self._thread is not None:
            self._thread.signal(trial.trial_id)


class MirrorThread(threading.Thread):
    """Syncs the trials that have changed; backs off exponentially while the store does not answer."""

    def __init__(self, mirror: Mirror) -> None:
        super().__init__(name="mlflow-mirror", daemon=True)
        self._mirror = mirror
        self._lock = threading.Lock()
        self._changed: set[str] = set()
        self._everything = True  # after a restore any trial may have changed
        self._wake = threading.Event()
        self._finishing = threading.Event()
        self._synced = threading.Event()

    def signal(self, trial_id: str) -> None:
        """Mark a trial as changed."""
        with self._lock:
            self._changed.add(trial_id)
        self._wake.set()

    def finish(self, seconds: float) -> bool:
        """Send everything and stop; False if the store has not received it within this time."""
        with self._lock:
            self._everything = True
        self._finishing.set()
        self._wake.set()
        return self._synced.wait(seconds)

    def run(self) -> None:
        wait = _PAUSE
        while True:
            finishing = self._finishing.is_set()
            with self._lock:
                changed, self._changed = (None if self._everything else self._changed), set()
                self._everything = False
            try:
                self._mirror.sync(changed)
            except Exception as error:
                with self._lock:
                    self._everything = True
                if wait == _PAUSE:
                    logger.warning("MLflow is not available (%s); values are kept and sent later.", error)
                self._finishing.wait(wait) if not finishing else time.sleep(_PAUSE)
                wait = min(2 * wait, _LONGEST_WAIT)
                continue
            if wait > _PAUSE:
                logger.warning("MLflow is available again; the values kept so far have been sent.")
                wait = _PAUSE
            if finishing:
                self._synced.set()
                return
            self._wake.wait()
            self._finishing.wait(_PAUSE)
            self._wake.clear()
