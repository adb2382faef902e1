"""Clients of MLflow's store, and the experiment in it."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from spin_rl.errors import UserError
from spin_rl.platform.tracking.store import KIND_TAGS, VIEW_TAGS, artifact_folder, sqlite_file


def open_client(tracking_uri: str) -> Any:
    """A client of the store that fails within seconds, where MLflow's default retries for minutes."""
    # MLflow's retries would create a run twice if the first answer was lost; the mirror's look for the run first.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("alembic", "mlflow.store.db.utils", "mlflow.pyfunc"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with _one_at_a_time(tracking_uri):
        return MlflowClient(tracking_uri)


@contextmanager
def _one_at_a_time(tracking_uri: str) -> Iterator[None]:
    """Keep two processes from creating the tables of one new SQLite store at the same time."""
    file = sqlite_file(tracking_uri)
    if file is None:
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        yield


def open_experiment(tracking_uri: str, experiment: str) -> tuple[Any, str]:
    """A client of the store, and the id of the experiment, which is created if it does not exist.

    Raises:
        UserError: the experiment was deleted.
        MlflowException: the store does not answer, or refuses.
    """
    client = open_client(tracking_uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        try:
            made = client.create_experiment(experiment, artifact_folder(tracking_uri), KIND_TAGS | VIEW_TAGS)
            return client, made
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(experiment)  # another sweep created it first
    if found.lifecycle_stage == "deleted":
        raise UserError(
            f"The MLflow experiment '{experiment}' was deleted; restore it with "
            f"`mlflow experiments restore --experiment-id {found.experiment_id}`, or name another one."
        )
    for name, value in VIEW_TAGS.items():
        if found.tags.get(name) != value:  # an experiment that this project did not create
            client.set_experiment_tag(found.experiment_id, name, value)
    return client, found.experiment_id
