"""MLflow's store: where it is, and its experiment."""

import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from spin_rl.errors import UserError
from spin_rl.platform.results.files import storage_root

_KIND_TAG = "mlflow.experimentKind"  # the page then shows runs with their metrics, not traces of chats

VIEW = "spin-rl"
"""Name of the view of the runs that the experiment carries: ``?viewStateShareKey=`` in the page's address opens it."""
_VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
_COLUMNS = (
    "metrics.`eval/return_mean`",
    "metrics.`eval/normalized_score`",
    "metrics.`time/total_seconds`",
    "metrics.`perf/updates_per_second`",
    "params.`asm_steps`",
    "params.`updates`",
    "params.`seed`",
)
"""What tells a sweep's trials apart at a glance, beside their names; MLflow's own default shows no metric."""
_BY_RETURN = {"orderByKey": _COLUMNS[0], "orderByAsc": False}  # sorted by a metric, the page unfolds every sweep
_VIEW_STATE = json.dumps({"selectedColumns": _COLUMNS, **_BY_RETURN})


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


def open_client(tracking_uri: str) -> Any:
    """A client of the store that fails soon where MLflow's own would try for minutes."""
    # Its retries would make a run twice whose first answer was lost; the mirror's own look for the run first.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    from mlflow import MlflowClient

    for name in ("alembic", "mlflow.store.db.utils", "mlflow.pyfunc"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with _one_at_a_time(tracking_uri):
        return MlflowClient(tracking_uri)


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
        MlflowException: the store does not answer, or refuses.
    """
    from mlflow.exceptions import MlflowException

    client = open_client(tracking_uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        try:
            tags = {_KIND_TAG: "custom_model_development", _VIEW_TAG: _VIEW_STATE}
            return client, client.create_experiment(experiment, artifact_folder(tracking_uri), tags)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(experiment)  # another sweep was quicker
    if found.lifecycle_stage == "deleted":
        raise UserError(
            f"The MLflow experiment '{experiment}' was deleted; bring it back with "
            f"`mlflow experiments restore --experiment-id {found.experiment_id}`, or name another one."
        )
    if found.tags.get(_VIEW_TAG) != _VIEW_STATE:  # an experiment that somebody else made
        client.set_experiment_tag(found.experiment_id, _VIEW_TAG, _VIEW_STATE)
    return client, found.experiment_id


def has_view(tags: Iterable[Mapping[str, str]]) -> bool:
    """Whether an experiment with these tags, as MLflow's server tells them, carries our view of its runs."""
    return any(tag["key"] == _VIEW_TAG for tag in tags)
