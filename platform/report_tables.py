"""A sweep's results as tables: which trials belong together, what each method reached and what it cost."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from spin_rl.platform.results import SweepResults

GROUP = ("task", "bins", "level", "objective")
"""Parameters that must agree for results to be comparable."""

_RECORD = ("state", "error", "started", "ended", "starts", "seed", "algorithm", "asm", *GROUP)

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
    """Seconds of pretraining and training till each result."""
    return metrics["time/pretrain_seconds"].fillna(0.0) + metrics["time/train_seconds"]


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


def summary(results: SweepResults, sweep_groups: Sequence[Group], evaluated: pd.DataFrame) -> pd.DataFrame:
    """One row for each method of each group; means and deviations are over seeds.

    Columns: group, algorithm, label, seeds, failed, state, updates, return_mean, return_std, best_mean, score_mean,
    score_std, pretrain_seconds, train_seconds, seconds, updates_per_second.
    """
    last = evaluated.groupby("trial_id").last()
    best = evaluated.groupby("trial_id")["return"].max()
    metrics = results.metrics
    end = metrics.groupby("trial_id")[["updates", "time/pretrain_seconds", "time/train_seconds"]].last()
    speed = metrics[metrics["updates"] > 0].groupby("trial_id")["perf/updates_per_second"].median()
    rows = []
    for group in sweep_groups:
        for method in group.methods:
            ids = list(method.trials)
            final, cost = last.reindex(ids), end.reindex(ids)
            pretrain, train = cost["time/pretrain_seconds"].fillna(0.0).mean(), cost["time/train_seconds"].mean()
            rows.append(
                {
                    "group": group.title,
                    "algorithm": method.algorithm,
                    "label": method.label,
                    "seeds": int(final["return"].notna().sum()),
                    "failed": method.failed,
                    "state": method.state,
                    "updates": cost["updates"].min(),
                    "return_mean": final["return"].mean(),
                    "return_std": final["return"].std(),
                    "best_mean": best.reindex(ids).mean(),
                    "score_mean": final["score"].mean(),
                    "score_std": final["score"].std(),
                    "pretrain_seconds": pretrain,
                    "train_seconds": train,
                    "seconds": pretrain + train,
                    "updates_per_second": speed.reindex(ids).mean(),
                }
            )
    return pd.DataFrame(rows)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The summary with few columns and rounded numbers, as text for people."""
    return pd.DataFrame(
        {
            "algorithm": table["label"],
            "return": _with_spread(table["return_mean"], table["return_std"]),
            "score": _with_spread(table["score_mean"], table["score_std"]),
            "seconds": [_number(value, 3) for value in table["seconds"]],
            "pretrain": [_number(value, 3) for value in table["pretrain_seconds"]],
            "updates/s": [_number(value, 3) for value in table["updates_per_second"]],
            "seeds": [_seeds(*row) for row in zip(table["seeds"], table["state"], table["failed"], strict=True)],
        }
    )


def markdown(table: pd.DataFrame) -> str:
    """The summary as Markdown, one table a group."""
    parts = []
    for title, rows in table.groupby("group", sort=False):
        text = readable(rows)
        lines = [list(text.columns), ["---", *["---:"] * (len(text.columns) - 1)], *text.to_numpy().tolist()]
        parts.append(f"**{title}**\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines))
    return "\n\n".join(parts) + "\n"


def _with_spread(means: pd.Series, spreads: pd.Series) -> list[str]:
    return [
        "–" if np.isnan(mean) else f"{mean:.1f}" if np.isnan(spread) else f"{mean:.1f} ± {spread:.1f}"
        for mean, spread in zip(means, spreads, strict=True)
    ]


def _seeds(seeds: int, state: str, failed: int) -> str:
    notes = [state] if state not in ("finished", "failed") else []
    notes += [f"{failed} failed"] if failed else []
    return f"{seeds} ({', '.join(notes)})" if notes else str(seeds)


def _number(value: float, digits: int) -> str:
    if np.isnan(value):
        return "–"
    decimals = max(0, digits - 1 - int(np.floor(np.log10(abs(value))))) if value else 0
    return f"{value:,.{min(decimals, digits - 1)}f}"


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


def _without_superseded(trials: pd.DataFrame) -> pd.DataFrame:
    """Of trials that differ in nothing, the one that came furthest: a restore may start a lost trial under a new id."""
    if trials.empty:
        return trials
    rank = {name: place for place, name in enumerate((*_USABLE, "failed"))}
    same = [*_settings(trials), "seed", "algorithm", *(name for name in GROUP if name in trials)]
    ordered = trials.assign(_rank=trials["state"].map(rank)).sort_values(
        ["_rank", "started"], ascending=[True, False], kind="stable"
    )
    kept = ordered[~ordered[same].astype(str).duplicated()]
    return trials.loc[[index for index in trials.index if index in set(kept.index)]]


def _labels(trials: pd.DataFrame) -> pd.Series:
    """Each trial's method: the algorithm, and the settings in which its trials differ."""
    labels = trials["algorithm"].map(display_name)
    for _, rows in trials.groupby("algorithm"):
        differing = [name for name in _settings(rows) if rows[name].astype(str).nunique() > 1]
        for index, row in rows.iterrows():
            parts = [f"{name} {_setting(row[name])}" for name in differing]
            labels[index] = ", ".join([str(labels[index]), *parts])
    return labels


def _setting(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _natural(labels: pd.Series) -> pd.Series:
    """Sorts numbers inside labels by their size."""
    return labels.str.replace(r"\d+(?:\.\d+)?", lambda match: f"{float(match.group()):020.6f}", regex=True)
