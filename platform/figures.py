"""Pictures of results, readable in print, in grey and by the colour-blind; a method looks the same in all of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from spin_rl.platform.report_groups import Group, Method, mean_curve

STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "figure.dpi": 100,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,  # text stays text
    "svg.fonttype": "none",
}


Line = str | tuple[int, tuple[float, ...]]


@dataclass(frozen=True)
class Look:
    """How a method is drawn: colour for the screen, line and marker for those who do not see it."""

    color: tuple[float, float, float]
    line: Line
    marker: str


# Okabe and Ito's colours, without the yellow, which paper does not show
_LOOKS: dict[str, tuple[str, Line, str]] = {
    "spin": ("#0072B2", "-", "o"),
    "saint": ("#D55E00", (0, (5, 1.5)), "s"),
    "factored": ("#444444", (0, (1.2, 1.2)), "^"),
    "autoregressive": ("#009E73", (0, (5, 1.5, 1.2, 1.5)), "D"),
    "spin-distill": ("#56B4E9", (0, (8, 2)), "v"),
    "spin-cached": ("#CC79A7", (0, (3, 1)), "P"),
    "finetune": ("#E69F00", (0, (2, 1)), "X"),
}
_MARKERS = "os^Dv<>pPX"
_OTHERS: tuple[tuple[str, Line, str], ...] = (
    ("#8C564B", "-.", "<"),
    ("#7F7F2A", "--", ">"),
    ("#5D3A9B", ":", "p"),
    ("#9E9E9E", "-", "h"),
)


def look(method: Method) -> Look:
    """A method's look: the algorithm's, lighter or darker for its variants."""
    name = method.algorithm
    color, line, marker = _LOOKS.get(name) or _OTHERS[sum(name.encode()) % len(_OTHERS)]
    base = np.array(to_rgb(color))
    if method.variants > 1:
        # from a light tint to a dark shade, so that neighbours differ and the order is seen
        place = method.variant / (method.variants - 1)
        base = base + (1 - base) * 0.6 * (1 - 2 * place) if place < 0.5 else base * (1 - 0.65 * (2 * place - 1))
        marker = _MARKERS[method.variant % len(_MARKERS)]
    return Look((float(base[0]), float(base[1]), float(base[2])), line, marker)


def learning_curves(groups: Sequence[Group], evaluated: pd.DataFrame, axes: Sequence[str]) -> Figure:
    """Return against policy updates (axis "updates") and wall-clock (axis "seconds"), one panel a group and axis."""
    with mpl.rc_context(STYLE):
        cells = [(group, axis) for group in groups for axis in axes]
        columns = len(axes) if len(axes) > 1 else min(3, len(groups))
        rows = -(-len(cells) // columns)
        labels = {method.label for group in groups for method in group.methods if method.trials}
        # Placed in inches: working the layout out takes longer than drawing where panels are many.
        width, height, legend = (
            3.3 * columns + 0.2,
            2.4 * rows,
            0.1 + 0.2 * -(-len(labels) // _columns(labels, columns)),
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
        _add_legend(figure, list(panels), "upper center")
        return figure


def finish(figure: Figure, panels: Iterable[Axes]) -> Figure:
    """Put the legend of these panels above them, and work the layout out once instead of again for each file."""
    _add_legend(figure, panels, "outside upper center")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def _add_legend(figure: Figure, panels: Iterable[Axes], place: Any) -> None:
    entries: dict[str, Any] = {
        label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    if entries:
        columns = _columns(entries, figure.get_figwidth() / 3.4)
        figure.legend(
            list(entries.values()), list(entries), loc=place, ncols=columns, handlelength=3.5, borderaxespad=0.3
        )


def _columns(labels: Iterable[str], panels: float) -> int:
    """Columns of a legend above so many panels: as many as its longest entry leaves room for."""
    letters = max(len(label) for label in labels) + 8  # with the line beside it
    return max(1, min(4, int(50 * panels) // letters))


def _draw_panel(panel: Axes, group: Group, evaluated: pd.DataFrame, axis: str) -> None:
    curves = [(method, mean_curve(evaluated, method)) for method in group.methods if method.trials]
    longest = max((np.nanmax(curve.seconds, initial=0.0) for _, curve in curves), default=0.0)
    unit, name = (3600.0, "hours") if longest > 3 * 3600 else (60.0, "minutes") if longest > 300 else (1.0, "seconds")
    for method, curve in curves:
        style = look(method)
        x = curve.updates if axis == "updates" else curve.seconds / unit
        if not len(x):
            continue
        if axis == "seconds" and x[0] > 0:
            # pretraining: time passes, the untrained policy stays what it is
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


def save(figure: Figure, path: Path) -> None:
    """Write ``path`` as PNG and PDF (the suffix is added)."""
    with mpl.rc_context(STYLE):
        for suffix in (".png", ".pdf"):
            # no date inside: the same results give the same file
            figure.savefig(path.with_suffix(suffix), metadata={"CreationDate": None} if suffix == ".pdf" else None)
