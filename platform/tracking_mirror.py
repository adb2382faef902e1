"""Mirrors a sweep's files (`platform.results`) into MLflow: one parent run for the sweep, one child for each trial.

The files come first and hold everything, so the mirror may be late, be cut off or start over: what it has sent stands
in ``mlflow.json`` beside what it sent. A server that was down gets every value later, in order and once: values carry
the time at which they were written, and MLflow's stores keep one of two equal values.
"""

import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from filelock import FileLock

from spin_rl.envs.errors import UserError
from spin_rl.platform.results import MetricsFile, read_json, storage_root, write_json

logger = logging.getLogger(__name__)

STATE_FILE = "mlflow.json"
KEY_TAG = "spin_rl.key"
STATE_TAG = "spin_rl.state"
END_STATUS = {"finished": "FINISHED", "pruned": "KILLED", "failed": "FAILED", "killed": "KILLED"}
_METRICS_PER_REQUEST = 1000  # MLflow's limit
_PARAMS_PER_REQUEST = 100  # MLflow's limit


def default_tracking_uri(storage: str | Path | None = None) -> str:
    """``MLFLOW_TRACKING_URI``, else a SQLite file in the results' folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{storage_root(storage) / 'mlflow.db'}"


def sqlite_file(tracking_uri: str) -> Path | None:
    """The file of an SQLite store; None for anything else."""
    scheme, _, path = tracking_uri.partition(":///")
    return Path(path.partition("?")[0]).absolute() if scheme.startswith("sqlite") and path else None


def artifact_folder(tracking_uri: str) -> str | None:
    """Where an SQLite store keeps artifacts: beside its file, not in whatever folder a process started in."""
    file = sqlite_file(tracking_uri)
    return (file.parent / "artifacts").as_uri() if file else None


@contextmanager
def _one_at_a_time(tracking_uri: str) -> Iterator[None]:
    """Keep two processes from making the tables of one new SQLite store at the same time."""
    file = sqlite_file(tracking_uri)
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        yield


def open_experiment(tracking_uri: str, experiment: str) -> tuple[Any, str]:
    """A client of the store, and the id of the experiment, which is made if it is not there.

    Raises:
        UserError: the experiment was deleted.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    # The mirror waits between tries itself; MLflow's own retries would hold a request for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with _one_at_a_time(tracking_uri):
        client = MlflowClient(tracking_uri)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            try:
                return client, client.create_experiment(experiment, artifact_location=artifact_folder(tracking_uri))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = client.get_experiment_by_name(experiment)  # another sweep was quicker
    if found.lifecycle_stage == "deleted":
        raise UserError(
            f"The MLflow experiment '{experiment}' was deleted; bring it back with "
            f"`mlflow experiments restore --experiment-id {found.experiment_id}`, or name another one."
        )
    return client, found.experiment_id


class Mirror:
    """Brings a sweep's runs in MLflow up to date with its files.

    Args:
        folder: the sweep's folder.
        tracking_uri: MLflow's store.
        experiment: name of the experiment that holds the runs.
        tags: further tags of every run.
    """

    def __init__(self, folder: Path, tracking_uri: str, experiment: str, tags: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.tracking_uri = tracking_uri
        self.experiment = experiment
        self.tags = dict(tags or {})
        self._client: Any = None
        self._experiment_id = ""

    def sync(self, trial_ids: set[str] | None = None) -> None:
        """Send what is new of the sweep and of these trials (None: all).

        Raises:
            Exception: whatever the store answers; call again later, nothing is lost or doubled.
        """
        if self._client is None:
            self._client, self._experiment_id = open_experiment(self.tracking_uri, self.experiment)
        sweep = read_json(self.folder / "sweep.json")
        parent = self._run(self.folder, key=sweep["id"], name=sweep["name"], started=sweep["created"])
        parent.send_params(sweep["settings"])
        parent.send_tags({"mlflow.note.content": sweep["description"], "spin_rl.sweep": sweep["name"]} | self.tags)
        for path in sorted(self.folder.glob("trials/*/trial.json")):
            if trial_ids is None or path.parent.name in trial_ids:
                self._sync_trial(path, sweep, parent.run_id)
        parent.send_state(sweep["state"], sweep.get("ended"))

    def _sync_trial(self, path: Path, sweep: Mapping[str, Any], parent_id: str) -> None:
        trial = read_json(path)
        run = self._run(
            path.parent,
            key=f"{sweep['id']}/{trial['trial_id']}",
            name=run_name(trial["params"]) or trial["trial_id"],
            started=trial["started"],
            tags={"mlflow.parentRunId": parent_id, "spin_rl.trial_id": trial["trial_id"]},
        )
        run.send_params(trial["params"])
        run.send_tags({"spin_rl.sweep": sweep["name"]} | self.tags)
        run.send_metrics()
        run.send_state(trial["state"], trial["ended"], trial["error"])

    def _run(
        self, folder: Path, *, key: str, name: str, started: float | None, tags: Mapping[str, str] | None = None
    ) -> "RunMirror":
        run = RunMirror(self._client, folder, self.tracking_uri)
        run.open(self._experiment_id, key=key, name=name, started=started or time.time(), tags=tags or {})
        return run


def run_name(params: Mapping[str, Any]) -> str:
    """A run's name for its parameters: ``spin iql cheetah-run-3 medium-expert seed 0``."""
    task = "-".join(str(params[name]) for name in ("task", "bins") if name in params)
    words = [params.get("algorithm"), params.get("objective"), task or None, params.get("level")]
    if "seed" in params:
        words.append(f"seed {params['seed']}")
    return " ".join(str(word) for word in words if word is not None)


class RunMirror:
    """One folder and its run: remembers in ``mlflow.json`` what the run has been sent."""

    def __init__(self, client: Any, folder: Path, tracking_uri: str) -> None:
        self._client = client
        self._path = folder / STATE_FILE
        self._metrics = MetricsFile(folder / "metrics.jsonl")
        self._sent = read_json(self._path) if self._path.is_file() else {}
        if self._sent.get("tracking_uri") != tracking_uri:  # another store knows nothing of what this one was sent
            self._sent = {"tracking_uri": tracking_uri}

    @property
    def run_id(self) -> str:
        """MLflow's id of the run."""
        return str(self._sent["run_id"])

    def open(self, experiment_id: str, *, key: str, name: str, started: float, tags: Mapping[str, str]) -> None:
        """Find the run, or make it."""
        if "run_id" in self._sent:
            return
        run_id = None
        if self._sent.get("making"):  # a request of which no answer came may have made it
            found = self._client.search_runs([experiment_id], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
            run_id = found[0].info.run_id if found else None
        if run_id is None:
            self._remember(making=True)
            all_tags = {KEY_TAG: key, STATE_TAG: "running", "mlflow.source.name": "spin-rl", **tags}
            run_id = self._client.create_run(
                experiment_id, start_time=int(1000 * started), tags=all_tags, run_name=name
            ).info.run_id
        self._remember(run_id=run_id, state="running")

    def send_params(self, params: Mapping[str, Any]) -> None:
        """Log the parameters; MLflow takes each once, so later changes of them are left out."""
        from mlflow.entities import Param

        sent = self._sent.get("params", [])
        entities = [
            Param(safe_key(name), str(value))
            for name, value in params.items()
            if value is not None and safe_key(name) not in sent
        ]
        for chunk in _chunks(entities, _PARAMS_PER_REQUEST):
            self._client.log_batch(self.run_id, params=chunk)
        if entities:
            self._remember(params=[*sent, *(entity.key for entity in entities)])

    def send_tags(self, tags: Mapping[str, str]) -> None:
        """Set the tags that are new or changed."""
        from mlflow.entities import RunTag

        sent = self._sent.get("tags", {})
        entities = [RunTag(name, str(value)) for name, value in tags.items() if sent.get(name) != str(value)]
        for chunk in _chunks(entities, _PARAMS_PER_REQUEST):
            self._client.log_batch(self.run_id, tags=chunk)
        if entities:
            self._remember(tags=sent | {entity.key: entity.value for entity in entities})

    def send_metrics(self) -> None:
        """Log the lines that were added since the last time."""
        offset, step, eval_step = (self._sent.get(name, start) for name, start in _START.items())
        lines, end = self._metrics.read_from(offset)
        metrics: list[Any] = []
        for line in lines:
            # A trial that went on from a checkpoint reports some updates again; the run has their values already.
            new, step, eval_step = _metrics_of(line, step, eval_step)
            metrics += new
        for chunk in _chunks(metrics, _METRICS_PER_REQUEST):
            self._client.log_batch(self.run_id, metrics=chunk)
        if end != offset:
            self._remember(offset=end, step=step, eval_step=eval_step)

    def send_state(self, state: str, ended: float | None, error: str | None = None) -> None:
        """Set the run's status: MLflow has none for pruned, so the tag tells it."""
        if self._sent.get("state") == state:
            return
        self.send_tags({STATE_TAG: state} | ({"spin_rl.error": error[-5000:]} if error else {}))
        if state in END_STATUS:
            self._client.set_terminated(self.run_id, END_STATUS[state], int(1000 * (ended or time.time())))
        else:
            self._client.update_run(self.run_id, status="RUNNING")
        self._remember(state=state)

    def _remember(self, **changes: Any) -> None:
        self._sent |= changes
        write_json(self._path, self._sent)


_START = {"offset": 0, "step": -1, "eval_step": -1}


def _metrics_of(line: Mapping[str, Any], step: int, eval_step: int) -> tuple[list[Any], int, int]:
    """What a line tells that is past these steps; an evaluation stands at the update that it was made at."""
    from mlflow.entities import Metric

    updates = line["updates"]
    evaluated = line.get("eval/updates")
    evaluated = updates if evaluated is None else int(evaluated)
    timestamp = int(1000 * line["timestamp"])
    metrics = []
    for name, value in line.items():
        if name in ("updates", "timestamp", "eval/updates") or value is None:
            continue
        at, last = (evaluated, eval_step) if name.startswith("eval/") else (updates, step)
        if at > last:
            metrics.append(Metric(safe_key(name), value, timestamp, at))
    return metrics, max(step, updates), max(eval_step, evaluated)


def safe_key(name: str) -> str:
    """A name that MLflow takes for a metric or a parameter."""
    return "".join(char if char.isascii() and (char.isalnum() or char in "_-. :/") else "_" for char in name)


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
