"""MLflow's store as this project has it: where it is, and how its page shows an experiment. Imports no MLflow."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from spin_rl.platform.results.files import storage_root

VIEW = "spin-rl"
"""Name of the view of the runs, stored in the experiment; opened by ``?viewStateShareKey=`` in the page's address."""
_COLUMNS = (
    "metrics.`eval/return_mean`",
    "metrics.`eval/normalized_score`",
    "metrics.`time/total_seconds`",
    "metrics.`perf/updates_per_second`",
    "params.`asm_steps`",
    "params.`clone_steps`",
    "params.`updates`",
    "params.`seed`",
)
"""The columns that distinguish a sweep's trials, beside their names; MLflow's default shows no metric."""
_BY_RETURN = {"orderByKey": _COLUMNS[0], "orderByAsc": False}  # sorted by a metric, the page expands every sweep

KIND_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Tags of an experiment by which the page shows runs with their metrics, not traces of chats."""

VIEW_TAGS = {f"mlflow.sharedViewState.{VIEW}": json.dumps({"selectedColumns": _COLUMNS, **_BY_RETURN})}
"""Tags of an experiment that hold the view of its runs."""


def default_tracking_uri(storage: str | Path | None = None) -> str:
    """``MLFLOW_TRACKING_URI``, else an SQLite file in the results folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{storage_root(storage) / 'mlflow.db'}"


def sqlite_file(tracking_uri: str) -> Path | None:
    """The file of an SQLite store; None for anything else."""
    scheme, _, path = tracking_uri.partition(":///")
    return Path(path.partition("?")[0]).absolute() if scheme.startswith("sqlite") and path else None


def artifact_folder(tracking_uri: str) -> str | None:
    """Where an SQLite store keeps artifacts: beside its file, not in the current folder as is MLflow's default."""
    file = sqlite_file(tracking_uri)
    return (file.parent / "artifacts").as_uri() if file else None


def has_view(tags: Iterable[Mapping[str, str]]) -> bool:
    """Whether an experiment with these tags, as MLflow's server lists them, has the view of its runs."""
    return any(tag["key"] in VIEW_TAGS for tag in tags)
