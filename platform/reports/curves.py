"""Learning curves: return against updates, seconds or minutes."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spin_rl.platform.reports.groups import Group, mean_curve
from spin_rl.platform.reports.style import STYLE, add_legend, legend_columns


def learning_curves(groups: Sequence[Group], evaluated: pd.DataFrame, axes: Sequence[str]) -> Figure:
    """Return against policy updates (axis "updates") and wall-clock (axis "seconds"), a panel per group and axis."""
    with mpl.rc_context(STYLE):
        cells = [(group, axis) for group in groups for axis in axes]
        columns = len(axes) if len(axes) > 1 else min(3, len(groups))
        rows = -(-len(cells) // columns)
        labels = {method.label for group in groups for method in group.methods if method.trials}
        # Placed in inches: with many panels a computed layout takes longer than drawing.
        width, height, legend = (
            3.3 * columns + 0.2,
            2.4 * rows,
            0.1 + 0.2 * -(-len(labels) // legend_columns(labels, columns)),
        )
        figure = Figure(figsize=(width, height + legend))
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        figure.subplots_adjust(
            left=0.55 / width,
            right=1 - 0.15 / width,
            bottom=0.45 / (height + legend),
            top=1 - (0.25 + legend) / (height + legend),
            wspace=0.5 / (3.3 - 0.5),
            hspace=0.7 / (2.4 - 0.7),
        )
        for panel, (group, axis) in zip(panels, cells, strict=False):
            _draw_panel(panel, group, evaluated, axis)
            panel.set_title(group.title, loc="left")
        for panel in panels[len(cells) :]:
            panel.set_visible(False)
        for panel in panels[::columns]:
            panel.set_ylabel("return", labelpad=2)
        add_legend(figure, list(panels), "upper center")
        return figure


def _draw_panel(panel: Axes, group: Group, evaluated: pd.DataFrame, axis: str) -> None:
    curves = [(method, mean_curve(evaluated, method)) for method in group.methods if method.trials]
    longest = max((np.nanmax(curve.seconds, initial=0.0) for _, curve in curves), default=0.0)
    unit, name = (3600.0, "hours") if longest > 3 * 3600 else (60.0, "minutes") if longest > 300 else (1.0, "seconds")
    for method, curve in curves:
        style = method.look
        x = curve.updates if axis == "updates" else curve.seconds / unit
        if not len(x):
            continue
        if axis == "seconds" and x[0] > 0:
            # pretraining: time passes, the policy is untrained
            panel.plot([0, x[0]], [curve.mean[0]] * 2, color=style.color, linewidth=0.8, linestyle=(0, (1, 2)))
        panel.fill_between(
            x, curve.mean - curve.spread, curve.mean + curve.spread, color=style.color, alpha=0.15, linewidth=0
        )
        panel.plot(
            x,
            curve.mean,
            color=style.color,
            linestyle=style.line,
            marker=style.marker,
            markevery=max(1, len(x) // 8),
            label=method.label,
        )
    panel.set_xlim(left=0)
    panel.set_ylim(bottom=min(0.0, panel.get_ylim()[0]))
    panel.set_xlabel("policy updates" if axis == "updates" else f"{name} of pretraining and training")
    if axis == "updates":
        panel.xaxis.set_major_formatter(_thousands)


def _thousands(value: float, _: object) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"
