"""The style of pictures: the style sheet, legends, and how they are saved; methods' looks are in `presentation`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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


def finish(figure: Figure, panels: Iterable[Axes]) -> Figure:
    """Put the legend of these panels above them, and fix the layout, which would be computed again for each file."""
    add_legend(figure, panels, "outside upper center")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def add_legend(figure: Figure, panels: Iterable[Axes], place: Any) -> None:
    """Add one legend for all panels to a figure, each label once."""
    entries: dict[str, Any] = {
        label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    if entries:
        columns = legend_columns(entries, figure.get_figwidth() / 3.4)
        figure.legend(
            list(entries.values()), list(entries), loc=place, ncols=columns, handlelength=3.5, borderaxespad=0.3
        )


def legend_columns(labels: Iterable[str], panels: float) -> int:
    """How many columns the legend above this many panels can have, given its longest entry."""
    letters = max(len(label) for label in labels) + 8  # with the line beside it
    return max(1, min(4, int(50 * panels) // letters))


def save(figure: Figure, path: Path) -> None:
    """Write ``path`` as PNG and PDF (the suffix is added)."""
    with mpl.rc_context(STYLE):
        for suffix in (".png", ".pdf"):
            # without the date: the same results give the same file
            figure.savefig(path.with_suffix(suffix), metadata={"CreationDate": None} if suffix == ".pdf" else None)
