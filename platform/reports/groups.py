"""Which of a sweep's trials belong together: groups that are comparable, and in each the methods with their seeds."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from spin_rl.platform.reports.statistics import Floats
from spin_rl.platform.results.files import SweepResults

GROUP = ("task", "bins", "level", "objective")
"""Parameters that must agree for results to be comparable."""

_RECORD = ("state", "error", "started", "ended", "starts", "seed", "algorithm", "asm", *GROUP)

_PLACES = ("asm", "dataset", "dataset_digest", "environment")
"""Parameters that say where something lies; what differs there differs in another parameter too."""

NAMES = {
    "spin": "SPIN",
    "spin-distill": "SPIN-Distill",
    "spin-cached": "SPIN-Cached",
    "finetune": "SPIN (finetuned)",
    "saint": "SAINT",
    "factored": "Factored",
    "autoregressive": "Autoregressive",
}
"""Methods as they are written for readers, in the order in which tables and legends list them."""

_LEVELS = ("random", "medium", "medium-expert", "random-medium-expert", "expert")

_USABLE = ("finished", "running", "killed", "pruned")
"""A method's numbers come from its trials in the first of these states that any of them is in."""


@dataclass(frozen=True)
class Method:
    """The trials of one method in one group: an algorithm, and the settings in which it differs from its siblings.

    Attributes:
        algorithm: the algorithm's name in the parameters.
        label: what readers call it.
        variant: place among the variants of the algorithm in the sweep.
        variants: how many variants of the algorithm the sweep has.
        trials: ids of the trials that the numbers come from, one a seed.
        state: the state that these trials are in.
        failed: how many further ones failed.
    """

    algorithm: str
    label: str
    variant: int
    variants: int
    trials: tuple[str, ...]
    state: str
    failed: int


@dataclass(frozen=True)
class Group:
    """Methods that are comparable: one task, one number of bins, one level, one objective."""

    title: str
    key: tuple[object, ...]
    methods: tuple[Method, ...]


def display_name(algorithm: str) -> str:
    """An algorithm's name for readers."""
    return NAMES.get(algorithm, algorithm)


def evaluations(results: SweepResults) -> pd.DataFrame:
    """Every evaluation once: trial_id, updates (at which it was made), seconds (of pretraining and training till then),
    return, score."""
    metrics = results.metrics
    made_at = metrics["eval/updates"].fillna(metrics["updates"])
    made = metrics["eval/return_mean"].notna()
    frame = pd.DataFrame(
        {
            "trial_id": metrics["trial_id"],
            "updates": made_at,
            "return": metrics["eval/return_mean"],
            "score": metrics["eval/normalized_score"],
        }
    )[made]
    frame = frame.drop_duplicates(["trial_id", "updates"]).sort_values(["trial_id", "updates"])
    frame["seconds"] = np.nan
    clock = pd.DataFrame({"trial_id": metrics["trial_id"], "updates": metrics["updates"], "seconds": seconds(metrics)})
    clocks = dict(tuple(clock.dropna().groupby("trial_id")))
    for trial_id, rows in frame.groupby("trial_id"):
        if (own := clocks.get(trial_id)) is not None:
            # An evaluation that ran beside the training is told later than the update that it looked at.
            frame.loc[rows.index, "seconds"] = np.interp(rows["updates"], own["updates"], own["seconds"])
    return frame.reset_index(drop=True)


def seconds(metrics: pd.DataFrame) -> pd.Series:
    """Seconds of pretraining, preparation (of features, of a student) and training till each result."""
    before = metrics["time/pretrain_seconds"].fillna(0.0)
    if "time/preparation_seconds" in metrics:
        before = before + metrics["time/preparation_seconds"].fillna(0.0)
    return before + metrics["time/train_seconds"]


def groups(results: SweepResults) -> list[Group]:
    """The sweep's groups, and in each its methods."""
    trials = _without_superseded(results.trials.dropna(subset=["algorithm"]))
    labels = _labels(trials)
    order = {name: place for place, name in enumerate(NAMES)}
    variants = {
        algorithm: list(dict.fromkeys(labels.loc[rows.index].sort_values(key=_natural)))
        for algorithm, rows in trials.groupby("algorithm")
    }
    present = [name for name in GROUP if name in trials]
    made: list[Group] = []
    for key, members in trials.groupby(present, dropna=False, sort=True):
        methods = []
        for label, rows in members.groupby(labels.loc[members.index]):
            algorithm = str(rows["algorithm"].iloc[0])
            state = next((name for name in _USABLE if (rows["state"] == name).any()), "failed")
            methods.append(
                Method(
                    algorithm=algorithm,
                    label=str(label),
                    variant=variants[algorithm].index(label),
                    variants=len(variants[algorithm]),
                    trials=tuple(rows.index[rows["state"] == state]) if state != "failed" else (),
                    state=state,
                    failed=int((rows["state"] == "failed").sum()),
                )
            )
        methods.sort(key=lambda method: (order.get(method.algorithm, len(order)), method.algorithm, method.variant))
        made.append(Group(_title(dict(zip(present, key, strict=True))), tuple(key), tuple(methods)))
    return sorted(made, key=lambda group: [_place(value) for value in group.key])


def _place(value: object) -> tuple[int, float, str]:
    """Levels in their order, numbers by size, the rest by name."""
    if value in _LEVELS:
        return _LEVELS.index(str(value)), 0.0, ""
    number = float(value) if isinstance(value, int | float) and not pd.isna(value) else 0.0
    return 0, number, str(value)


class Curve(NamedTuple):
    """A method's mean over seeds at each evaluation (evaluations,), and the deviation (0 for one seed)."""

    updates: Floats
    seconds: Floats
    mean: Floats
    spread: Floats


def mean_curve(evaluated: pd.DataFrame, method: Method) -> Curve:
    """The mean over a method's trials at the evaluations that all of them have.

    The clock at an evaluation is the mean of the trials' clocks there.
    """
    rows = evaluated[evaluated["trial_id"].isin(method.trials)]
    table = rows.groupby("updates").agg(
        count=("return", "count"), mean=("return", "mean"), spread=("return", "std"), seconds=("seconds", "mean")
    )
    table = table[table["count"] == table["count"].max()] if len(table) else table
    return Curve(
        updates=table.index.to_numpy(float),
        seconds=table["seconds"].to_numpy(float),
        mean=table["mean"].to_numpy(float),
        spread=table["spread"].fillna(0.0).to_numpy(float),
    )


def _title(values: dict[str, object]) -> str:
    known = {name: value for name, value in values.items() if not pd.isna(value)}
    words = [str(known.get("task", "all trials"))]
    if "bins" in known:
        words.append(f"{int(float(str(known['bins'])))} bins")
    words += [str(known["level"])] if "level" in known else []
    words += [str(known["objective"]).upper()] if "objective" in known else []
    return ", ".join(words)


def _settings(trials: pd.DataFrame) -> list[str]:
    return [name for name in trials.columns if name not in _RECORD]


def parameters_of(trials: pd.DataFrame) -> list[str]:
    """Columns in which trials that are not the same differ, but for the model's place, which follows from others."""
    return [*_settings(trials), "seed", "algorithm", *(name for name in GROUP if name in trials)]


def _without_superseded(trials: pd.DataFrame) -> pd.DataFrame:
    """Of trials that differ in nothing, the one that came furthest: a restore may start a lost trial under a new id."""
    if trials.empty:
        return trials
    rank = {name: place for place, name in enumerate((*_USABLE, "failed"))}
    same = parameters_of(trials)
    ordered = trials.assign(_rank=trials["state"].map(rank)).sort_values(
        ["_rank", "started"], ascending=[True, False], kind="stable"
    )
    kept = ordered[~ordered[same].map(str).duplicated()]
    return trials.loc[[index for index in trials.index if index in set(kept.index)]]


def _labels(trials: pd.DataFrame) -> pd.Series:
    """Each trial's method: the algorithm, and the settings in which its trials differ for one and the same seed."""
    labels = trials["algorithm"].map(display_name)
    blocks = ["seed", *(name for name in GROUP if name in trials)]
    for _, rows in trials.groupby("algorithm"):
        text = rows.map(str)
        chosen: list[str] = []
        for name in _settings(rows):
            # what says where something lies, or comes with the seed or with those chosen already, was not chosen
            if name not in _PLACES and text.groupby([*blocks, *chosen])[name].nunique().max() > 1:
                chosen.append(name)
        for index in rows.index:
            labels[index] = ", ".join(
                [str(labels[index]), *(f"{name} {_setting(rows[name][index])}" for name in chosen)]
            )
    return labels


def _setting(value: object) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else f"{value:g}"
    return str(value)


def _natural(labels: pd.Series) -> pd.Series:
    """Sorts numbers inside labels by their size."""
    return labels.str.replace(r"\d+(?:\.\d+)?", lambda match: f"{float(match.group()):020.6f}", regex=True)
