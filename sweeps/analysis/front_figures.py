"""Figures of what a search found."""

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spin_rl.platform.reports.style import STYLE, finish

_COLUMNS = 2


def _panels(count: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    columns = min(_COLUMNS, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for panel in panels[count:]:
        panel.set_visible(False)
    return figure, panels


def draw_fronts(fronts: Mapping[str, pd.DataFrame]) -> Figure:
    """Score against seconds, a panel for each problem (tables of `front.points_of`)."""
    with mpl.rc_context(STYLE):
        figure, panels = _panels(len(fronts), 3.4, 2.7)
        for panel, (title, points) in zip(panels, fronts.items(), strict=False):
            _draw_front(panel, points)
            panel.set_title(title, loc="left")
        for panel in panels[::_COLUMNS]:
            panel.set_ylabel("normalised score")
        return finish(figure, panels[:1])


def _draw_front(panel: Axes, points: pd.DataFrame) -> None:
    on = points[points["front"]].sort_values("seconds")
    others = points[~points["front"]]
    panel.plot(on["seconds"], on["score"], color="#999999", linewidth=1, drawstyle="steps-post", zorder=1)
    panel.plot(others["seconds"], others["score"], "o", color="#BBBBBB", markersize=3.5, label="beaten")
    spread = on["score_std"].fillna(0.0) / np.sqrt(on["seeds"])
    panel.errorbar(
        on["seconds"],
        on["score"],
        yerr=spread,
        fmt="o",
        color="#0072B2",
        markersize=5,
        elinewidth=0.8,
        label="on the front ± 1 s.e.",
    )
    chosen = points[points["knee"]]
    panel.plot(
        chosen["seconds"], chosen["score"], "o", markersize=10, markerfacecolor="none", color="#D55E00", label="knee"
    )
    if "asm_steps" in points:
        for row in on.to_dict("records"):
            panel.annotate(
                f"{row['asm_steps']:g}",
                (row["seconds"], row["score"]),
                (0, 7),
                textcoords="offset points",
                ha="center",
                fontsize=7,
            )
    panel.margins(0.08, 0.15)
    panel.set_xlabel("seconds of pretraining and training")


def draw_importances(weights: Mapping[str, pd.DataFrame]) -> Figure:
    """Importance of every parameter for score and seconds, a panel for each problem (`front.importances`)."""
    with mpl.rc_context(STYLE):
        rows = max(len(found) for found in weights.values())
        figure, panels = _panels(len(weights), 3.4, 0.9 + 0.35 * rows)
        for panel, (title, found) in zip(panels, weights.items(), strict=False):
            places = np.arange(len(found))
            panel.barh(places - 0.2, found["score"], height=0.36, color="#0072B2", label="score")
            panel.barh(places + 0.2, found["seconds"], height=0.36, color="#E69F00", label="seconds")
            panel.set_yticks(places, list(found["parameter"]))
            panel.set_ylim(len(found) - 0.5, -0.5)
            panel.set_xlim(0, 1)
            panel.set_title(title, loc="left")
        return finish(figure, panels[:1])
