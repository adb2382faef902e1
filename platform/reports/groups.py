"""Which of a sweep's trials belong together: groups of comparable results, each with its methods and their seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from spin_rl.platform.reports.labels import DIGEST, data_columns, label_trials, natural_order, without_superseded
from spin_rl.platform.reports.presentation import Look, Presentation
from spin_rl.platform.reports.statistics import Floats
from spin_rl.platform.results.files import SweepResults

_LEVELS = ("random", "medium", "medium-expert", "random-medium-expert", "expert")

_USABLE = ("finished", "running", "killed", "pruned")
"""A method's numbers come from its trials in the first of these states that any of them is in."""


@dataclass(frozen=True)
class MethodTrials:
    """The trials of one method in one group: an algorithm with its objective, and the settings in which it varies.

    Attributes:
        algorithm: the algorithm's name in the parameters.
        objective: the objective's name in the parameters; None where a trial has none.
        settings: the settings in which the algorithm varies within the sweep, as text.
        name: the algorithm's name for readers.
        label: what reports call it: the name, the objective where the sweep has several, and the settings.
        look: how pictures draw it.
        trials: ids of the trials that the numbers come from, one per seed.
        state: the state that these trials are in.
        failed: number of further trials that failed.
    """

    algorithm: str
    objective: str | None
    settings: tuple[str, ...]
    name: str
    label: str
    look: Look
    trials: tuple[str, ...]
    state: str
    failed: int

    @property
    def short_label(self) -> str:
        """The label without the objective, for tables of one objective."""
        return ", ".join((self.name, *self.settings))


@dataclass(frozen=True, eq=False)
class Group:
    """The methods on one dataset.

    Attributes:
        title: the dataset for readers, with the objective where the whole sweep has one.
        dataset: the dataset alone for readers.
        data: the parameters that identify the dataset: `labels.GROUP`, as far as the trials have them.
        methods: in the order of tables.
    """

    title: str
    dataset: str
    data: Mapping[str, object]
    methods: tuple[MethodTrials, ...]

    def title_for(self, objective: str | None) -> str:
        """The title of a table that holds one objective's methods."""
        return self.dataset if objective is None else f"{self.dataset}, {objective.upper()}"

    def members(self, trials: pd.DataFrame) -> pd.DataFrame:
        """The rows of a sweep's trials that belong to the group."""
        names = list(self.data)
        return trials[(trials[names].astype(str) == [str(value) for value in self.data.values()]).all(axis=1)]


def evaluations(results: SweepResults) -> pd.DataFrame:
    """Every evaluation once: trial_id, updates (of the evaluated policy), seconds (of pretraining and training until
    then), return, score."""
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
            # An evaluation that ran beside the training is reported later than the update that it evaluated.
            frame.loc[rows.index, "seconds"] = np.interp(rows["updates"], own["updates"], own["seconds"])
    return frame.reset_index(drop=True)


def seconds(metrics: pd.DataFrame) -> pd.Series:
    """Seconds of pretraining, preparation (of features, of a student) and training until each result."""
    before = metrics["time/pretrain_seconds"].fillna(0.0)
    if "time/preparation_seconds" in metrics:
        before = before + metrics["time/preparation_seconds"].fillna(0.0)
    return before + metrics["time/train_seconds"]


def groups(results: SweepResults) -> list[Group]:
    """The sweep's groups, one for each dataset, and the methods in each."""
    trials = without_superseded(results.trials.dropna(subset=["algorithm"]))
    presentation = Presentation(results)
    trials = trials.assign(**label_trials(trials, presentation.name).add_prefix("_"))
    variants = {name: natural_order(list(rows["_label"].unique())) for name, rows in trials.groupby("algorithm")}
    columns = data_columns(trials)
    only = trials["_objective"].iloc[0] if trials["_objective"].nunique() == 1 else None
    made = []
    for key, members in trials.groupby(columns, dropna=False):
        data = dict(zip(columns, key, strict=True))
        methods = [
            _method(rows, presentation, variants[rows["algorithm"].iloc[0]]) for _, rows in members.groupby("_label")
        ]
        methods.sort(
            key=lambda method: (presentation.place(method.algorithm), variants[method.algorithm].index(method.label))
        )
        dataset = _title(data)
        made.append(Group(f"{dataset}, {only.upper()}" if only else dataset, dataset, data, tuple(methods)))
    return sorted(made, key=lambda group: [_place(value) for value in group.data.values()])


def _method(trials: pd.DataFrame, presentation: Presentation, variants: Sequence[str]) -> MethodTrials:
    """The method of the trials that share a label in a group; ``variants`` are all labels of its algorithm."""
    first = trials.iloc[0]
    algorithm, label = str(first["algorithm"]), str(first["_label"])
    state = next((name for name in _USABLE if (trials["state"] == name).any()), "failed")
    return MethodTrials(
        algorithm=algorithm,
        objective=first["_objective"] or None,
        settings=first["_settings"],
        name=presentation.name(algorithm),
        label=label,
        look=presentation.look(algorithm).variant(variants.index(label), len(variants)),
        trials=tuple(trials.index[trials["state"] == state]) if state != "failed" else (),
        state=state,
        failed=int((trials["state"] == "failed").sum()),
    )


def _place(value: object) -> tuple[int, float, str]:
    """Sorts levels in their order, numbers by size, and the rest by name."""
    if value in _LEVELS:
        return _LEVELS.index(str(value)), 0.0, ""
    number = float(value) if isinstance(value, int | float) and not pd.isna(value) else 0.0
    return 0, number, str(value)


def _title(data: Mapping[str, object]) -> str:
    known = {name: value for name, value in data.items() if not pd.isna(value)}
    words = [str(known.get("task", "all trials"))]
    if "bins" in known:
        words.append(f"{int(float(str(known['bins'])))} bins")
    words += [str(known["level"])] if "level" in known else []
    words += [f"data {str(known[DIGEST])[:8]}"] if DIGEST in known else []
    return ", ".join(words)


class Curve(NamedTuple):
    """A method's mean over seeds at each evaluation (evaluations,), and the deviation (0 for one seed)."""

    updates: Floats
    seconds: Floats
    mean: Floats
    spread: Floats


def mean_curve(evaluated: pd.DataFrame, method: MethodTrials) -> Curve:
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
