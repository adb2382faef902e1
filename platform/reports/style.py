"""How pictures look: the style sheet, a colour, line and mark for every method, legends."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from spin_rl.platform.reports.groups import Method

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


def finish(figure: Figure, panels: Iterable[Axes]) -> Figure:
    """Put the legend of these panels above them, and work the layout out once instead of again for each file."""
    add_legend(figure, panels, "outside upper center")
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def add_legend(figure: Figure, panels: Iterable[Axes], place: Any) -> None:
    entries: dict[str, Any] = {
        label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    if entries:
        columns = legend_columns(entries, figure.get_figwidth() / 3.4)
        figure.legend(
            list(entries.values()), list(entries), loc=place, ncols=columns, handlelength=3.5, borderaxespad=0.3
        )


def legend_columns(labels: Iterable[str], panels: float) -> int:
    """Columns of a legend above so many panels: as many as its longest entry leaves room for."""
    letters = max(len(label) for label in labels) + 8  # with the line beside it
    return max(1, min(4, int(50 * panels) // letters))


def save(figure: Figure, path: Path) -> None:
    """Write ``path`` as PNG and PDF (the suffix is added)."""
    with mpl.rc_context(STYLE):
        for suffix in (".png", ".pdf"):
            # no date inside: the same results give the same file
            figure.savefig(path.with_suffix(suffix), metadata={"CreationDate": None} if suffix == ".pdf" else None)
