"""A sweep's results as tables: what each method reached and what it cost, for machines and for people."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from spin_rl.platform.reports.groups import Curve, Group, Method, mean_curve
from spin_rl.platform.reports.statistics import (
    area_under_curve,
    improvement_interval,
    iqm_interval,
    target_return,
    time_to_target,
    value_at,
)
from spin_rl.platform.results.files import SweepResults

BASELINE = "factored"
"""The method whose final return sets the target of a group."""

EARLY = 10_000
"""Policy updates at which methods are compared early."""


def summary(results: SweepResults, sweep_groups: Sequence[Group], evaluated: pd.DataFrame) -> pd.DataFrame:
    """One row for each method of each group; means and deviations (std) are over seeds.

    Columns: group, algorithm, label, seeds, failed, state, updates, return (of the last evaluation) and score with
    their deviations, best_mean (best evaluation of each seed), return_10k, area (mean return over the training),
    target_seconds (till 95 % of the factored policy's final return), updates_per_second, and the seconds of
    pretraining (with the preparation that follows it: features, a student), training (both: seconds) and evaluation.
    """
    last = evaluated.groupby("trial_id").last()
    best = evaluated.groupby("trial_id")["return"].max()
    metrics = results.metrics
    times = [f"time/{part}_seconds" for part in ("pretrain", "preparation", "train", "evaluation")]
    end = metrics.reindex(columns=["trial_id", "updates", *times]).groupby("trial_id").last()
    speed = metrics[metrics["updates"] > 0].groupby("trial_id")["perf/updates_per_second"].median()
    rows = []
    for group in sweep_groups:
        curves = {method: mean_curve(evaluated, method) for method in group.methods}
        target = group_target(group, curves)
        for method, curve in curves.items():
            ids = list(method.trials)
            final, cost = last.reindex(ids), end.reindex(ids)
            pretrain, preparation, train, evaluation = (cost[name].mean() for name in times)
            pretrain = np.nan_to_num(pretrain) + np.nan_to_num(preparation)
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
                    "return_10k": value_at(curve.updates, curve.mean, EARLY),
                    "area": area_under_curve(curve.updates, curve.mean),
                    "target_seconds": time_to_target(curve.seconds, curve.mean, target),
                    "pretrain_seconds": pretrain,
                    "train_seconds": train,
                    "seconds": pretrain + train,
                    "evaluation_seconds": evaluation,
                    "updates_per_second": speed.reindex(ids).mean(),
                }
            )
    return pd.DataFrame(rows)


def group_target(group: Group, curves: Mapping[Method, Curve]) -> float:
    """95 % of the factored policy's final return in a group; NaN where it was not run."""
    baselines = [curves[method].mean for method in group.methods if method.algorithm == BASELINE]
    finals = [mean[-1] for mean in baselines if len(mean)]  # a trial may not have been evaluated yet
    return target_return(float(max(finals))) if finals else float("nan")


def final_scores(sweep_groups: Sequence[Group], evaluated: pd.DataFrame) -> dict[str, list[np.ndarray]]:
    """Each method's normalised scores: one array (seeds,) a group, over the groups in which every method has any."""
    last = evaluated.groupby("trial_id")["score"].last()
    table = {
        group: {method.label: last.reindex(list(method.trials)).dropna().to_numpy(float) for method in group.methods}
        for group in sweep_groups
    }
    labels = list(dict.fromkeys(label for scores in table.values() for label in scores))
    common = [scores for scores in table.values() if all(len(scores.get(label, ())) for label in labels)]
    return {label: [scores[label] for scores in common] for label in labels} if common else {}


def aggregate(scores: Mapping[str, list[np.ndarray]], baseline: str | None) -> pd.DataFrame:
    """Methods over all groups: interquartile mean of the score, and the chance to beat the baseline, with intervals."""
    rows = []
    for label, tasks in scores.items():
        middle = iqm_interval(tasks, resamples=1000)
        row = {
            "label": label,
            "tasks": len(tasks),
            "runs": sum(len(task) for task in tasks),
            "mean": float(np.mean([task.mean() for task in tasks])),
            "iqm": middle.value,
            "iqm_low": middle.low,
            "iqm_high": middle.high,
        }
        if baseline is not None and label != baseline:
            chance = improvement_interval(tasks, scores[baseline], resamples=1000)
            row |= {"improvement": chance.value, "improvement_low": chance.low, "improvement_high": chance.high}
        rows.append(row)
    columns = ["improvement", "improvement_low", "improvement_high"]
    table = pd.DataFrame(rows)
    return table.reindex(columns=[*(name for name in table.columns if name not in columns), *columns])


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The summary with few columns and rounded numbers, as text for people."""
    return pd.DataFrame(
        {
            "algorithm": table["label"],
            "return": _with_spread(table["return_mean"], table["return_std"]),
            "score": _with_spread(table["score_mean"], table["score_std"]),
            "to 95 %": _numbers(table["target_seconds"]),
            "seconds": _numbers(table["seconds"]),
            "updates/s": _numbers(table["updates_per_second"]),
            "seeds": [_seeds(*row) for row in zip(table["seeds"], table["state"], table["failed"], strict=True)],
        }
    )


def readable_costs(table: pd.DataFrame) -> pd.DataFrame:
    """Where the seconds went, and what else the curves tell, as text for people."""
    return pd.DataFrame(
        {
            "algorithm": table["label"],
            "pretraining": _numbers(table["pretrain_seconds"]),
            "training": _numbers(table["train_seconds"]),
            "evaluation": _numbers(table["evaluation_seconds"]),
            "best return": [_number(value, 4) for value in table["best_mean"]],
            "mean return": [_number(value, 4) for value in table["area"]],
            "at 10k updates": [_number(value, 4) for value in table["return_10k"]],
        }
    )


def readable_aggregate(table: pd.DataFrame) -> pd.DataFrame:
    """The aggregate as text for people."""
    return pd.DataFrame(
        {
            "algorithm": table["label"],
            "IQM score": _with_interval(table, "iqm", 1),
            "mean score": [f"{value:.1f}" for value in table["mean"]],
            "P(> factored)": _with_interval(table, "improvement", 2),
            "runs": [f"{runs} on {tasks}" for runs, tasks in zip(table["runs"], table["tasks"], strict=True)],
        }
    )


def markdown(table: pd.DataFrame) -> str:
    """The summary as Markdown, one table a group."""
    parts = [f"**{title}**\n\n{markdown_table(readable(rows))}" for title, rows in table.groupby("group", sort=False)]
    return "\n".join(parts)


def markdown_table(text: pd.DataFrame) -> str:
    """A table of text as Markdown, the first column to the left."""
    cells = [[str(cell).replace("|", "\\|") for cell in row] for row in text.to_numpy().tolist()]
    lines = [list(text.columns), ["---", *["---:"] * (len(text.columns) - 1)], *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def latex(table: pd.DataFrame) -> str:
    """The summary as one LaTeX table (package booktabs)."""
    text = readable(table)
    columns = " & ".join(_escape(name) for name in text.columns)
    lines = [r"\begin{tabular}{l" + "r" * (len(text.columns) - 1) + "}", r"\toprule", columns + r" \\"]
    for title, rows in table.groupby("group", sort=False):
        lines += [r"\midrule", rf"\multicolumn{{{len(text.columns)}}}{{l}}{{\emph{{{_escape(str(title))}}}}} \\"]
        best = rows["return_mean"].max()
        for index, row in text.loc[rows.index].iterrows():
            cells = [_escape(str(cell)) for cell in row]
            if rows["return_mean"][index] == best and len(rows) > 1:
                cells[1] = rf"\textbf{{{cells[1]}}}"
            lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


_LATEX = {"\\": r"\textbackslash{}", "±": r"$\pm$", "–": "--", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def _escape(text: str) -> str:
    return "".join(_LATEX.get(char, "\\" + char if char in "&%$#_{}" else char) for char in text)


def _with_spread(means: pd.Series, spreads: pd.Series) -> list[str]:
    return [
        "–" if np.isnan(mean) else f"{mean:.1f}" if np.isnan(spread) else f"{mean:.1f} ± {spread:.1f}"
        for mean, spread in zip(means, spreads, strict=True)
    ]


def _with_interval(table: pd.DataFrame, name: str, digits: int) -> list[str]:
    bounds = zip(table[name], table[f"{name}_low"], table[f"{name}_high"], strict=True)
    return [
        "–" if np.isnan(value) else f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
        for value, low, high in bounds
    ]


def _seeds(seeds: int, state: str, failed: int) -> str:
    notes = [state] if state not in ("finished", "failed") else []
    notes += [f"{failed} failed"] if failed else []
    return f"{seeds} ({', '.join(notes)})" if notes else str(seeds)


def _numbers(values: pd.Series) -> list[str]:
    return [_number(value, 3) for value in values]


def _number(value: float, digits: int) -> str:
    if np.isnan(value):
        return "–"
    decimals = max(0, digits - 1 - int(np.floor(np.log10(abs(value))))) if value else 0
    return f"{value:,.{min(decimals, digits - 1)}f}"
