"""Tracking of a sweep in MLflow while it runs: a Tune callback that only rings a bell, and a thread that does the work.

Ray's own MLflow callback has no parent run, sends one request a value from Tune's own thread, calls stopped trials
finished and starts new runs on restore.
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

_PAUSE = 1.0  # seconds between two rounds, in which values gather
_LONGEST_WAIT = 30.0  # seconds between two tries of a store that does not answer


def sweep_callbacks(
    folder: str | Path,
    describe: Describe,
    *,
    tracking_uri: str,
    experiment: str,
    tags: Mapping[str, str] | None = None,
) -> list[Callback]:
    """The callbacks of a sweep, in the order they need: files first, then MLflow, which is fed from them."""
    return [ResultsCallback(folder, describe), MLflowCallback(folder, tracking_uri, experiment, tags)]


class MLflowCallback(Callback):
    """Keeps the sweep's runs in MLflow up to date with the files that `ResultsCallback` writes.

    Stands after `ResultsCallback` in the list of callbacks. Nothing in it waits for the store except the end of the
    sweep, for at most ``flush_seconds``; what was not sent by then is sent when the sweep is resumed or by
    ``spin-rl report SWEEP --sync``.

    Args:
        folder: the sweep's folder.
        tracking_uri: MLflow's store.
        experiment: name of the experiment that holds the runs.
        tags: further tags of every run.
        flush_seconds: longest wait for the store at the sweep's end.
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
        return {**self.__dict__, "_thread": None}  # Tune keeps its callbacks with the sweep; threads do not travel

    @never_raises
    def setup(self, **_info: Any) -> None:
        folder, tracking_uri, experiment, tags = self._settings
        remember_tracking(folder, tracking_uri, experiment, tags)
        self._thread = MirrorThread(Mirror(*self._settings))
        self._thread.start()

    @never_raises
    def on_trial_start(self, trial: Trial, **_info: Any) -> None:
        self._ring(trial)

    @never_raises
    def on_trial_result(self, trial: Trial, **_info: Any) -> None:
        self._ring(trial)

    @never_raises
    def on_trial_complete(self, trial: Trial, **_info: Any) -> None:
        self._ring(trial)

    @never_raises
    def on_trial_error(self, trial: Trial, **_info: Any) -> None:
        self._ring(trial)

    @never_raises
    def on_experiment_end(self, **_info: Any) -> None:
        if self._thread is not None and not self._thread.finish(self._flush_seconds):
            folder, tracking_uri, *_ = self._settings
            logger.warning(
                "MLflow at %s has not taken everything yet, but nothing is lost: `spin-rl report %s --sync` sends it.",
                tracking_uri,
                folder,
            )

    def _ring(self, trial: Trial) -> None:
        if self._thread is not None:
            self._thread.ring(trial.trial_id)


class MirrorThread(threading.Thread):
    """Syncs the trials that have news, and waits longer and longer for a store that does not answer."""

    def __init__(self, mirror: Mirror) -> None:
        super().__init__(name="mlflow-mirror", daemon=True)
        self._mirror = mirror
        self._lock = threading.Lock()
        self._news: set[str] = set()
        self._everything = True  # after a restore any trial may have news
        self._bell = threading.Event()
        self._finishing = threading.Event()
        self._in_step = threading.Event()

    def ring(self, trial_id: str) -> None:
        """Tell that a trial has news."""
        with self._lock:
            self._news.add(trial_id)
        self._bell.set()

    def finish(self, seconds: float) -> bool:
        """Send everything and end; False if the store did not take it within this time."""
        with self._lock:
            self._everything = True
        self._finishing.set()
        self._bell.set()
        return self._in_step.wait(seconds)

    def run(self) -> None:
        wait = _PAUSE
        while True:
            finishing = self._finishing.is_set()
            with self._lock:
                news, self._news = (None if self._everything else self._news), set()
                self._everything = False
            try:
                self._mirror.sync(news)
            except Exception as error:
                with self._lock:
                    self._everything = True
                if wait == _PAUSE:
                    logger.warning("MLflow does not take values now (%s); they are kept and sent later.", error)
                self._finishing.wait(wait) if not finishing else time.sleep(_PAUSE)
                wait = min(2 * wait, _LONGEST_WAIT)
                continue
            if wait > _PAUSE:
                logger.warning("MLflow takes values again; what was kept is sent.")
                wait = _PAUSE
            if finishing:
                self._in_step.set()
                return
            self._bell.wait()
            self._finishing.wait(_PAUSE)
            self._bell.clear()
