"""How a sweep's trials are distinguished: parameters that identify the data, and settings in which a method varies."""

import re
from collections.abc import Callable, Sequence

import pandas as pd

GROUP = ("task", "bins", "level")
"""Parameters that identify the data: results on the same data are comparable, whatever the objective."""

DIGEST = "dataset_digest"
"""Tells versions of a dataset apart; part of the group where a sweep used several."""

_RECORD = ("state", "error", "started", "ended", "starts", "seed", "algorithm", "asm", "clone", "objective", *GROUP)
"""Columns that are no settings of a method."""

_PLACES = ("asm", "clone", "dataset", DIGEST, "environment")
"""Parameters that say where something is stored; trials that differ in one differ in another parameter too."""

_PROGRESS = ("finished", "running", "killed", "pruned", "failed")
"""States of a trial by how much its results count."""


def parameters_of(trials: pd.DataFrame) -> list[str]:
    """The columns that identify one of a sweep's trials; the model's path is left out, as it follows from others."""
    return [*_settings(trials), "seed", "algorithm", *(name for name in (*GROUP, "objective") if name in trials)]


def data_columns(trials: pd.DataFrame) -> list[str]:
    """The columns that identify the data of each trial."""
    columns = [name for name in GROUP if name in trials]
    if DIGEST in trials and columns and trials.groupby(columns, dropna=False)[DIGEST].nunique().max() > 1:
        columns.append(DIGEST)
    return columns


def without_superseded(trials: pd.DataFrame) -> pd.DataFrame:
    """Of trials that differ in no parameter, the most advanced: a restore may start a lost trial under a new id."""
    if trials.empty:
        return trials
    rank = {state: place for place, state in enumerate(_PROGRESS)}
    ordered = trials.assign(_rank=trials["state"].map(rank)).sort_values(
        ["_rank", "started"], ascending=[True, False], kind="stable"
    )
    best = ordered.index[~ordered[parameters_of(trials)].map(str).duplicated()]
    return trials[trials.index.isin(best)]


def label_trials(trials: pd.DataFrame, name: Callable[[str], str]) -> pd.DataFrame:
    """What each trial's method is called.

    Args:
        trials: a sweep's.
        name: an algorithm's name for readers.

    Returns:
        By trial id: ``objective`` (empty where there is none), ``settings``, those in which the method varies within
        the sweep, as a tuple of text (``("asm_steps 1000",)``), and ``label``, of the name, the objective where the
        sweep has several, and the settings.
    """
    objectives = (
        trials["objective"].fillna("").map(str) if "objective" in trials else trials["algorithm"].map(lambda _: "")
    )
    several = objectives.nunique() > 1
    rows: dict[object, dict[str, object]] = {}
    for (algorithm, objective), alike in trials.groupby([trials["algorithm"], objectives]):
        names = _varied(alike)
        for trial_id in alike.index:
            settings = tuple(f"{setting} {_readable(alike.at[trial_id, setting])}" for setting in names)
            words = [name(str(algorithm)), *([objective.upper()] if several and objective else []), *settings]
            rows[trial_id] = {"objective": objective, "settings": settings, "label": ", ".join(words)}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["objective", "settings", "label"]).reindex(
        trials.index
    )


def _varied(trials: pd.DataFrame) -> list[str]:
    """The settings that vary between trials of one method: in which those with one seed on one dataset differ.

    A setting that follows from those before it, as the epochs follow from the steps, or from the seed, is left out.
    """
    text = trials.map(str)
    equal = ["seed", *(name for name in GROUP if name in trials)]
    varied: list[str] = []
    for name in _settings(trials):
        if name not in _PLACES and text.groupby([*equal, *varied])[name].nunique().max() > 1:
            varied.append(name)
    return varied


def _settings(trials: pd.DataFrame) -> list[str]:
    return [name for name in trials.columns if name not in _RECORD]


def _readable(value: object) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else f"{value:g}"
    return str(value)


def natural_order(labels: Sequence[str]) -> list[str]:
    """Labels in alphabetical order, the numbers in them by size."""
    return sorted(labels, key=lambda label: re.sub(r"\d+(?:\.\d+)?", _padded, label))


def _padded(number: "re.Match[str]") -> str:
    return f"{float(number.group()):020.6f}"
