"""What the sweeps' analyses share: results with the parameters that varied, and figures of one against the other."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spin_rl.platform.reports.groups import evaluations, groups
from spin_rl.platform.reports.presentation import Presentation
from spin_rl.platform.reports.style import STYLE, finish
from spin_rl.platform.reports.tables import BASELINE, summary
from spin_rl.platform.results.files import SweepResults


def outcomes(results: SweepResults, parameters: Sequence[str]) -> pd.DataFrame:
    """One row for each method of each group: `reports.tables.summary` with parameters of the method's trials.

    Args:
        results: a sweep's results.
        parameters: names of further columns; NaN for trials without the parameter.

    Returns:
        The summary with those columns, ``name`` (the method's display name) and ``trials`` (their ids). Methods
        without an evaluation are left out.
    """
    trials = with_clones(results.trials)
    sweep_groups, evaluated = groups(results), evaluations(results)
    table = summary(results, sweep_groups, evaluated)
    rows = [(group, method) for group in sweep_groups for method in group.methods]
    methods = [method for _, method in rows]
    table["trials"] = [method.trials for method in methods]
    table["name"] = [method.name for method in methods]
    # an analysis compares methods that have one objective
    table["group"] = [group.title_for(method.objective) for group, method in rows]
    table["label"] = [method.short_label for method in methods]
    for name in parameters:
        column = trials.get(name, pd.Series(dtype=object))
        table[name] = [column.get(method.trials[0], np.nan) if method.trials else np.nan for method in methods]
    order = sorted(range(len(rows)), key=lambda row: (sweep_groups.index(rows[row][0]), str(methods[row].objective)))
    table = table.iloc[order]
    return table[table["return_mean"].notna()].reset_index(drop=True)


def with_clones(trials: pd.DataFrame) -> pd.DataFrame:
    """Trials with the steps and epochs of their clones under ``asm_steps`` and ``asm_epochs``: lengths of pretraining.

    A trial starts from a model of one kind, so that no value is lost.
    """
    for name, clones in (("asm_steps", "clone_steps"), ("asm_epochs", "clone_epochs")):
        if clones in trials:
            own = trials[name] if name in trials else trials[clones]
            trials = trials.assign(**{name: own.where(own.notna(), trials[clones])})
    return trials


def finals(results: SweepResults, trials: Sequence[str]) -> "pd.Series[float]":
    """Return of the last evaluation of each of these trials, by seed."""
    evaluated = evaluations(results)
    last = evaluated[evaluated["trial_id"].isin(list(trials))].groupby("trial_id")["return"].last()
    seeds = results.trials["seed"].reindex(last.index)
    return pd.Series(last.to_numpy(float), index=seeds.to_numpy())


class Panel(NamedTuple):
    """One column of a figure: results (rows of `outcomes`) against one of their parameters."""

    title: str
    rows: pd.DataFrame
    against: str
    label: str


class Measure(NamedTuple):
    """One row of a figure."""

    column: str
    label: str
    spread: str | None = None  # column of the standard deviation over seeds
    scale: float = 1.0


def against(panels: Sequence[Panel], measures: Sequence[Measure], presentation: Presentation) -> Figure:
    """Measures against parameters: a line for each method, horizontal if it does not have the parameter.

    The values of a parameter are at equal distances, as they often double and may start at 0.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(0.6 + 2.4 * len(panels), 0.6 + 1.9 * len(measures)), layout="constrained")
        axes = figure.subplots(len(measures), len(panels), squeeze=False)
        for column, panel in enumerate(panels):
            for row, measure in enumerate(measures):
                _draw(axes[row, column], panel, measure, presentation)
            axes[0, column].set_title(panel.title.replace(", ", "\n", 1), loc="left")
            axes[-1, column].set_xlabel(panel.label)
        for row, measure in enumerate(measures):
            axes[row, 0].set_ylabel(measure.label)
        return finish(figure, list(axes.ravel()))


def _draw(axes: Axes, panel: Panel, measure: Measure, presentation: Presentation) -> None:
    varied = panel.rows.dropna(subset=[panel.against])
    values = sorted(set(varied[panel.against].astype(float)))
    for algorithm, rows in varied.groupby("algorithm", sort=False):
        ordered = rows.sort_values(panel.against)
        name = str(algorithm)
        style = presentation.look(name)
        x = [values.index(float(value)) for value in ordered[panel.against]]
        y = ordered[measure.column] * measure.scale
        if measure.spread:
            spread = ordered[measure.spread].fillna(0.0) * measure.scale
            axes.fill_between(x, y - spread, y + spread, color=style.color, alpha=0.15, linewidth=0)
        axes.plot(x, y, color=style.color, linestyle=style.line, marker=style.marker, label=presentation.name(name))
    for row in panel.rows[panel.rows[panel.against].isna()].to_dict("records"):
        style = presentation.look(row["algorithm"])
        if not np.isnan(row[measure.column]):
            height = row[measure.column] * measure.scale
            axes.axhline(height, color=style.color, linestyle=style.line, linewidth=1.2, label=row["name"])
    axes.set_xticks(range(len(values)), [_short(value) for value in values])
    axes.set_xlim(-0.3, len(values) - 0.7)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def number(value: float, digits: int = 1) -> str:
    """A number for readers, a dash for a missing one."""
    return "–" if value is None or np.isnan(value) else f"{value:,.{digits}f}"


def with_spread(row: Mapping[str, float]) -> str:
    """Mean return ± its standard deviation over seeds."""
    spread = row["return_seed_std"]
    return number(row["return_mean"]) + ("" if np.isnan(spread) else f" ± {spread:.1f}")


def baseline_of(rows: pd.DataFrame) -> dict[str, float] | None:
    """The factored policy's row of a group."""
    found = rows[rows["algorithm"] == BASELINE]
    return dict(found.iloc[0]) if len(found) else None
