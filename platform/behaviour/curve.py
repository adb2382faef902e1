"""The learning curve of a behaviour training in MLflow: one run per training, resumed together with the training."""

from pathlib import Path
from types import TracebackType
from typing import Self

from mlflow.exceptions import MlflowException

from spin_rl.envs.behaviour.training import Evaluation
from spin_rl.envs.catalogue import Task
from spin_rl.platform.tracking.client import open_experiment
from spin_rl.platform.tracking.store import default_tracking_uri

EXPERIMENT = "behaviour"


class BehaviourCurve:
    """Logs the points of one training; the run's id is kept in the training's folder."""

    def __init__(self, storage: Path, task: Task, seed: int, folder: Path, algorithm: str) -> None:
        self._client, experiment = open_experiment(default_tracking_uri(storage), EXPERIMENT)
        self._task = task
        known = folder / "mlflow_run"
        if known.exists() and self._exists(known.read_text()):
            self._run = known.read_text()
            self._client.update_run(self._run, status="RUNNING")
        else:
            self._run = self._client.create_run(experiment, run_name=f"{task.key}-seed-{seed}").info.run_id
            for name, value in {"task": task.name, "bins": task.bins, "seed": seed, "algorithm": algorithm}.items():
                self._client.log_param(self._run, name, value)
            known.write_text(self._run)
        # a training resumed from its checkpoint computes some points again, with the same values
        history = self._client.get_metric_history(self._run, "eval/return_mean")
        self._logged = max((point.step for point in history), default=-1)

    def log(self, point: Evaluation) -> None:
        """Log a point of the curve, unless it is already logged."""
        if point.step <= self._logged:
            return
        values = {
            "eval/return_mean": point.return_mean,
            "eval/return_std": point.return_std,
            "eval/normalized_score": self._task.reference.normalize(point.return_mean),
            "train/loss": point.loss,
            "time/train_seconds": point.seconds,
        }
        for name in ("epsilon", "entropy", "temperature"):
            if (value := getattr(point, name)) is not None:
                values[f"train/{name}"] = value
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, step=point.step)
        self._logged = point.step

    def _exists(self, run: str) -> bool:
        try:
            self._client.get_run(run)
        except MlflowException:
            return False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        state = "FINISHED" if kind is None else "KILLED" if issubclass(kind, KeyboardInterrupt) else "FAILED"
        self._client.set_terminated(self._run, status=state)
