"""One folder and its MLflow run; what has been sent to the run is recorded in the folder's ``mlflow.json``."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

from spin_rl.platform.common.json_files import read_json, write_json
from spin_rl.platform.results.files import MetricsFile

STATE_FILE = "mlflow.json"
KEY_TAG = "spin_rl.key"
STATE_TAG = "spin_rl.state"
END_STATUS = {"finished": "FINISHED", "pruned": "KILLED", "failed": "FAILED", "killed": "KILLED"}
_METRICS_PER_REQUEST = 1000  # MLflow's limit
_PARAMS_PER_REQUEST = 100  # MLflow's limit
_LONGEST_VALUE = 500


class RunMirror:
    """Brings one run up to date; whatever is sent twice, for example after a crash, is in the run once.

    Args:
        client: MLflow's client.
        folder: the folder that the run mirrors.
        tracking_uri: the client's store.
    """

    def __init__(self, client: Any, folder: Path, tracking_uri: str) -> None:
        self._client = client
        self._path = folder / STATE_FILE
        self._metrics = MetricsFile(folder / "metrics.jsonl")
        self._sent = read_json(self._path) if self._path.is_file() else {}
        if self._sent.get("tracking_uri") != tracking_uri:  # what was sent to one store is not in another
            self._sent = {"tracking_uri": tracking_uri}

    @property
    def run_id(self) -> str:
        """MLflow's id of the run."""
        return str(self._sent["run_id"])

    def open(self, experiment_id: str, *, key: str, name: str, started: float) -> None:
        """Find the run, or create it."""
        if "run_id" in self._sent:
            return
        run_id = None
        if self._sent.get("creating"):  # a request without an answer may have created it
            found = self._client.search_runs([experiment_id], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
            run_id = found[0].info.run_id if found else None
        if run_id is None:
            self._remember(creating=True)
            tags = {KEY_TAG: key, STATE_TAG: "running", "mlflow.source.name": "spin-rl"}
            created = self._client.create_run(experiment_id, start_time=int(1000 * started), tags=tags, run_name=name)
            run_id = created.info.run_id
        self._remember(run_id=run_id, state="running")

    def forget(self) -> None:
        """Start over with a new run, as the store has lost the old one."""
        self._sent = {"tracking_uri": self._sent["tracking_uri"]}
        write_json(self._path, self._sent)

    def send_params(self, params: Mapping[str, Any]) -> None:
        """Log the parameters that have a short value; MLflow never changes a parameter: the first value stays."""
        sent = self._sent.get("params", [])
        values = {safe_key(name): _short(value) for name, value in params.items()}
        entities = [Param(name, value) for name, value in values.items() if value is not None and name not in sent]
        for chunk in _chunks(entities, _PARAMS_PER_REQUEST):
            self._client.log_batch(self.run_id, params=chunk)
        if entities:
            self._remember(params=[*sent, *(entity.key for entity in entities)])

    def send_tags(self, tags: Mapping[str, str]) -> None:
        """Set the tags that are new or changed."""
        sent = self._sent.get("tags", {})
        values = {safe_key(name): str(value) for name, value in tags.items()}
        entities = [RunTag(name, value) for name, value in values.items() if sent.get(name) != value]
        for chunk in _chunks(entities, _PARAMS_PER_REQUEST):
            self._client.log_batch(self.run_id, tags=chunk)
        if entities:
            self._remember(tags=sent | {entity.key: entity.value for entity in entities})

    def send_dataset(self, name: str, digest: str, source: str, profile: Mapping[str, Any]) -> None:
        """Log the dataset that the run was trained on."""
        if self._sent.get("dataset") == digest:
            return
        dataset = Dataset(
            name=name,
            digest=digest[:36],  # MLflow's limit
            source_type="local",
            source=json.dumps({"uri": source}),
            profile=json.dumps(dict(profile)),
        )
        context = InputTag("mlflow.data.context", "training")
        self._client.log_inputs(self.run_id, [DatasetInput(dataset, [context])])
        self._remember(dataset=digest)

    def send_metrics(self) -> None:
        """Log the lines added to ``metrics.jsonl`` since the last call."""
        offset, step, eval_step = (self._sent.get(name, start) for name, start in _START.items())
        lines, end = self._metrics.read_from(offset)
        metrics: list[Any] = []
        for line in lines:
            # A trial resumed from a checkpoint reports some updates again; the run has their values already.
            new, step, eval_step = _metrics_of(line, step, eval_step)
            metrics += new
        self._log_metrics(metrics)
        if end != offset:
            self._remember(offset=end, step=step, eval_step=eval_step)

    def send_checkpoints(self, records: Sequence[Path]) -> None:
        """Log the numbers in the records of a model's checkpoints, each at its checkpoint's step."""
        sent = self._sent.get("checkpoints", [])
        new = [path for path in records if path.parent.name not in sent]
        metrics = []
        for path in new:
            record = read_json(path)
            timestamp = int(1000 * path.stat().st_mtime)
            for name, value in record.items():
                if isinstance(value, int | float) and name not in ("step", "bins"):
                    metrics.append(Metric(f"pretrain/{name}", value, timestamp, record["step"]))
        self._log_metrics(metrics)
        if new:
            self._remember(checkpoints=[*sent, *(path.parent.name for path in new)])

    def _log_metrics(self, metrics: Sequence[Any]) -> None:
        for chunk in _chunks(metrics, _METRICS_PER_REQUEST):
            self._client.log_batch(self.run_id, metrics=chunk)

    def send_state(self, state: str, ended: float | None, error: str | None = None) -> None:
        """Set the run's status; MLflow has none for pruned trials, so a tag holds the exact state."""
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
    """The metrics of a line beyond these steps; an evaluation counts at the update that was evaluated."""
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
    """A name that MLflow accepts for a metric or a parameter."""
    return "".join(char if char.isascii() and (char.isalnum() or char in "_-. :/") else "_" for char in name)


def _short(value: Any) -> str | None:
    """A parameter as text; None if it is missing or too long."""
    if value is None:
        return None
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)
    return text if len(text) <= _LONGEST_VALUE else None


def _chunks(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
