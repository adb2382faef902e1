"""The results of a sweep: plain files that are read without Tune and without MLflow.

    <storage>/<sweep>/sweep.json                  the sweep: name, description, command, settings, methods, state
    <storage>/<sweep>/trials/<id>/trial.json      the trial: its flat parameters, its state, its error
    <storage>/<sweep>/trials/<id>/metrics.jsonl   one line for each result reported to Tune, flat, with its `updates`

Reports are made from these files and MLflow is synced from them (`platform.tracking`), so nothing is lost while a
tracking server is down.
"""

import json
import math
import numbers
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from spin_rl.errors import UserError, unknown_name
from spin_rl.platform.common.json_files import read_json, write_json
from spin_rl.platform.common.provenance import own_provenance
from spin_rl.platform.results.driver import is_interrupted

METRIC_GROUPS = ("eval/", "train/", "time/", "perf/", "system/")
"""Prefixes of the metrics that are kept of a result; the others are Tune's or RLlib's."""

STATES = ("running", "finished", "pruned", "failed", "killed")
"""States of a trial: pruned was stopped by a scheduler, killed was interrupted with its sweep and can be resumed."""


def storage_root(storage: str | Path | None = None) -> Path:
    """The folder of all results: ``storage``, else ``SPIN_RL_STORAGE``, else ``./results``."""
    return Path(storage or os.environ.get("SPIN_RL_STORAGE") or "results").absolute()


def folder_name(name: str) -> str:
    """The folder name for a sweep's name, which may contain spaces, slashes and letters of any script."""
    safe = "".join(char if char.isalnum() or char in "-_.+" else "-" for char in name).strip(".-")
    if not safe:
        raise UserError(f"The name '{name}' has no letter or digit; choose a name for the sweep that has one.")
    return safe


def find_sweep(name: str, storage: str | Path | None = None) -> Path:
    """The folder of a sweep, given by its name or by a path.

    Raises:
        UserError: there is no such sweep; the message lists the existing ones.
    """
    root = storage_root(storage)
    for folder in (root / folder_name(name), Path(name)):
        if (folder / "sweep.json").is_file():
            return folder.absolute()
    known = sorted(path.parent.name for path in root.glob("*/sweep.json"))
    if not known:
        raise UserError(f"There is no sweep '{name}' and none at all in {root}; run one, or name another --storage.")
    raise unknown_name("sweep", name, known)


def start_sweep(
    folder: Path,
    *,
    name: str,
    description: str = "",
    command: str = "",
    settings: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
    methods: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Write ``sweep.json``, or return the one that is there.

    Args:
        folder: the sweep's folder.
        name: its display name.
        description: a sentence for the head of the report.
        command: the command that repeats it.
        settings: what identifies the sweep; a folder never holds two sweeps with different settings.
        provenance: code, machine and versions; those of this process by default.
        methods: how reports show each method, by its name and in the order of tables: its ``label``, and for pictures
            its ``color``, ``line`` and ``marker`` (as in Matplotlib).

    Raises:
        UserError: the folder belongs to a sweep with other settings.
    """
    path = folder / "sweep.json"
    settings = json.loads(json.dumps(dict(settings or {}), default=str))
    if path.is_file():
        record = read_json(path)
        differing = sorted(
            key for key in {*record["settings"], *settings} if record["settings"].get(key) != settings.get(key)
        )
        if differing:
            raise UserError(
                f"{folder} holds the sweep '{record['name']}' with other settings ({', '.join(differing)}); "
                "give this one another name."
            )
        return record
    record = {
        "schema": 1,
        "id": uuid.uuid4().hex,
        "name": name,
        "description": description,
        "created": time.time(),
        "command": command,
        "settings": settings,
        "provenance": dict(own_provenance() if provenance is None else provenance),
        "methods": {method: dict(shown) for method, shown in (methods or {}).items()},
        "state": "running",
    }
    write_json(path, record)
    return record


def flat_metrics(result: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of a Tune result that are the project's own, flat; values that are not finite become None."""
    metrics: dict[str, Any] = {}
    for name, value in _flatten(result):
        if not (name == "updates" or name.startswith(METRIC_GROUPS)):
            continue
        if isinstance(value, numbers.Integral):
            metrics[name] = int(value)
        elif isinstance(value, numbers.Real):
            metrics[name] = float(value) if math.isfinite(value) else None
    return metrics


def _flatten(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in nested.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value


class MetricsFile:
    """The lines of one trial's ``metrics.jsonl``.

    Lines are only appended. A trial resumed from a checkpoint reports some updates again: a line replaces every earlier
    line at or past its own `updates`, so that the lines that count are those of one uninterrupted run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._torn = True  # until checked: a process that died may have left half a line

    def append(self, metrics: Mapping[str, Any]) -> None:
        """Add one line."""
        line = json.dumps(metrics, allow_nan=False) + "\n"
        with self.path.open("ab+") as file:
            if self._torn and file.tell() > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            self._torn = False
            file.write(line.encode())

    def read(self) -> list[dict[str, Any]]:
        """The lines that count, in order of `updates`."""
        lines, _ = self.read_from(0)
        return _without_replaced(lines)

    def read_from(self, offset: int) -> tuple[list[dict[str, Any]], int]:
        """Every complete line from a byte offset on, and the offset after the last of them."""
        if not self.path.is_file():
            return [], offset
        with self.path.open("rb") as file:
            file.seek(offset)
            text = file.read()
        complete = text[: text.rfind(b"\n") + 1]
        lines = []
        for raw in complete.splitlines():
            try:
                line = json.loads(raw)
            except ValueError:
                continue  # cut off by a crash; the trial reports that update again
            if isinstance(line, dict) and isinstance(line.get("updates"), int):
                lines.append(line)
        return lines, offset + len(complete)


def _without_replaced(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    for line in lines:
        while kept and kept[-1]["updates"] >= line["updates"]:
            kept.pop()
        kept.append(line)
    return kept


@dataclass(frozen=True)
class SweepResults:
    """The contents of a sweep's files.

    Attributes:
        folder: the sweep's folder.
        record: ``sweep.json``.
        trials: one row a trial, indexed by trial id: state, error, started, ended and the trial's parameters.
        metrics: one row a result: trial_id, updates, timestamp and the metrics; NaN where one was not reported.
    """

    folder: Path
    record: dict[str, Any]
    trials: pd.DataFrame
    metrics: pd.DataFrame

    @property
    def name(self) -> str:
        """The sweep's display name."""
        return str(self.record["name"])


TRIAL_COLUMNS = ("state", "error", "started", "ended", "algorithm", "task", "bins", "level", "seed")
METRIC_COLUMNS = (
    "trial_id",
    "updates",
    "timestamp",
    "eval/updates",
    "eval/return_mean",
    "eval/return_std",
    "eval/normalized_score",
    "time/pretrain_seconds",
    "time/train_seconds",
    "time/total_seconds",
    "perf/updates_per_second",
)


def read_sweep(folder: Path) -> SweepResults:
    """Read a sweep that is finished, interrupted or still running.

    Raises:
        UserError: the folder holds no sweep, or a file of it is broken.
    """
    if not (folder / "sweep.json").is_file():
        raise UserError(f"{folder} holds no sweep (no sweep.json); name a folder that `spin-rl sweep` created.")
    trials: dict[str, dict[str, Any]] = {}
    metrics: list[dict[str, Any]] = []
    for path in sorted(folder.glob("trials/*/trial.json")):
        trial = read_json(path)
        params = trial.pop("params", {})
        trial_id = str(trial.pop("trial_id", path.parent.name))
        trials[trial_id] = params | trial
        metrics += [{"trial_id": trial_id, **line} for line in MetricsFile(path.parent / "metrics.jsonl").read()]
    frame = pd.DataFrame.from_dict(trials, orient="index")
    frame.index.name = "trial_id"
    record = read_json(folder / "sweep.json")
    if record["state"] == "running" and is_interrupted(folder):
        record["state"] = "interrupted"  # its driver died without recording it
        frame = frame.replace({"state": {"running": "killed"}})
    return SweepResults(
        folder=folder,
        record=record,
        trials=_with_columns(frame, TRIAL_COLUMNS),
        metrics=_with_columns(pd.DataFrame.from_records(metrics), METRIC_COLUMNS),
    )


def _with_columns(frame: pd.DataFrame, columns: tuple[str, ...]) -> pd.DataFrame:
    """The frame with these columns first, empty where they are missing."""
    return frame.reindex(columns=[*columns, *(name for name in frame.columns if name not in columns)])
