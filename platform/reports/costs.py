"""Pictures of what methods cost and of how they compare over all tasks; learning curves are in `curves`."""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from spin_rl.platform.reports.groups import Group
from spin_rl.platform.reports.presentation import Look
from spin_rl.platform.reports.statistics import performance_profile, profile_band
from spin_rl.platform.reports.style import STYLE, finish


def looks(sweep_groups: Sequence[Group]) -> dict[str, Look]:
    """The look of every method by its label, in the order of tables and legends."""
    return {method.label: method.look for group in sweep_groups for method in group.methods}


def time_to_target(table: pd.DataFrame, styles: Mapping[str, Look]) -> Figure:
    """Wall-clock until 95 % of the factored policy's final return; open marks did not reach it.

    One row for each group, or for each method where there is only one group.
    """
    with mpl.rc_context(STYLE):
        rows = "group" if table["group"].nunique() > 1 else "label"
        names = list(dict.fromkeys(table[rows]))
        figure = Figure(figsize=(6.8, 1.1 + 0.26 * len(names)), layout="constrained")
        panel = figure.subplots()
        for row in table.dropna(subset=["seconds"]).to_dict("records"):
            style = styles[row["label"]]
            reached = not np.isnan(row["target_seconds"])
            panel.plot(
                # where it was not reached, the mark is at the end of the training
                (row["target_seconds"] if reached else row["seconds"]) / 60,
                names.index(row[rows]),
                linestyle="",
                marker=style.marker,
                markersize=6,
                color=style.color,
                markerfacecolor=style.color if reached else "white",
                label=row["label"],
            )
        panel.set_yticks(range(len(names)), names)
        panel.set_ylim(len(names) - 0.5, -0.5)
        _plain_log_axis(panel)
        panel.set_xlabel("minutes (open marks: ended without reaching it)")
        return finish(figure, [panel] if rows == "group" else [])


def _plain_log_axis(panel: Axes) -> None:
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    panel.xaxis.set_minor_formatter(lambda _value, _: "")


def pareto(table: pd.DataFrame, styles: Mapping[str, Look]) -> Figure:
    """Mean normalised score against seconds, means over groups; the line is the Pareto front."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.8, 3.2), layout="constrained")
        panel = figure.subplots()
        points = table.groupby("label", sort=False)[["seconds", "score_mean"]].mean().dropna()
        ordered = points.sort_values("seconds")
        front = ordered[ordered["score_mean"] > ordered["score_mean"].cummax().shift(fill_value=-np.inf)]
        panel.plot(
            front["seconds"], front["score_mean"], color="#999999", linewidth=1, drawstyle="steps-post", zorder=1
        )
        for label, point in points.iterrows():
            style = styles[str(label)]
            panel.plot(
                point["seconds"],
                point["score_mean"],
                linestyle="",
                marker=style.marker,
                markersize=7,
                color=style.color,
                label=str(label),
            )
        _plain_log_axis(panel)
        panel.set_xlabel("seconds of pretraining and training")
        panel.set_ylabel("normalised score")
        return finish(figure, [panel])


def over_all_tasks(
    overall: pd.DataFrame, scores: Mapping[str, Sequence[np.ndarray]], styles: Mapping[str, Look]
) -> Figure:
    """Interquartile means with their intervals, and performance profiles."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.8, 2.9), layout="constrained")
        panels = figure.subplots(1, 2, width_ratios=(1, 1.3))
        _intervals(panels[0], overall, styles)
        _profiles(panels[1], scores, styles)
        return finish(figure, [panels[1]])


def _intervals(panel: Axes, overall: pd.DataFrame, styles: Mapping[str, Look]) -> None:
    for place, row in enumerate(overall.to_dict("records")):
        style = styles[row["label"]]
        panel.plot([row["iqm_low"], row["iqm_high"]], [place, place], color=style.color, linewidth=5, alpha=0.35)
        panel.plot(row["iqm"], place, marker=style.marker, markersize=6, color=style.color)
    panel.set_yticks(range(len(overall)), list(overall["label"]))
    panel.set_ylim(len(overall) - 0.5, -0.5)
    panel.set_xlabel("IQM of the normalised score, 95 % interval")


def _profiles(panel: Axes, scores: Mapping[str, Sequence[np.ndarray]], styles: Mapping[str, Look]) -> None:
    everything = np.concatenate([task for tasks in scores.values() for task in tasks])
    margin = 0.05 * (np.ptp(everything) or 1.0)
    thresholds = np.linspace(everything.min() - margin, everything.max() + margin, 101)
    for label, tasks in scores.items():
        style = styles[label]
        low, high = profile_band(tasks, thresholds, resamples=300)
        panel.fill_between(thresholds, low, high, color=style.color, alpha=0.12, linewidth=0)
        panel.plot(
            thresholds,
            performance_profile(tasks, thresholds),
            color=style.color,
            linestyle=style.line,
            marker=style.marker,
            markevery=12,
            label=label,
        )
    panel.set_ylim(0, 1.02)
    panel.set_xlabel("normalised score")
    panel.set_ylabel("share of runs above it")


_PARTS = {"pretrain_seconds": "", "train_seconds": "////", "evaluation_seconds": "...."}


def cost_split(table: pd.DataFrame, styles: Mapping[str, Look]) -> Figure:
    """Seconds of pretraining, training and evaluation of each method, means over groups."""
    with mpl.rc_context(STYLE):
        parts = table.groupby("label", sort=False)[list(_PARTS)].mean().fillna(0.0)
        figure = Figure(figsize=(6.8, 1.0 + 0.28 * len(parts)), layout="constrained")
        panel = figure.subplots()
        for place, (label, row) in enumerate(parts.iterrows()):
            start = 0.0
            for number, (name, hatch) in enumerate(_PARTS.items()):
                color = styles[str(label)].color if number < 2 else (1.0, 1.0, 1.0)
                panel.barh(
                    place,
                    row[name],
                    left=start,
                    height=0.6,
                    color=color,
                    alpha=1.0 if number == 0 else 0.55,
                    hatch=hatch,
                    edgecolor="white" if number < 2 else styles[str(label)].color,
                    linewidth=0.5,
                )
                start += row[name]
        panel.set_yticks(range(len(parts)), list(parts.index))
        panel.set_ylim(len(parts) - 0.5, -0.5)
        panel.set_xlabel("seconds (full: pretraining, hatched: training, dotted: evaluation)")
        return finish(figure, [])
