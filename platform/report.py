"""The report of a sweep: tables, pictures and one page, made from its files alone, whether it is finished or not."""

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, select_autoescape
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from spin_rl.envs.errors import UserError
from spin_rl.platform.report_tables import Group, evaluations, groups, markdown, readable, summary
from spin_rl.platform.results import SweepResults, read_sweep

_PANELS_TOGETHER = 3
"""Up to this many groups the curves against updates and against wall-clock share a picture."""


@dataclass(frozen=True)
class Report:
    """What `make_report` wrote.

    Attributes:
        folder: where it lies.
        results: what it was made from.
        table: one row for each method of each group (`report_tables.summary`).
        pictures: the pictures without their suffix, by caption.
    """

    folder: Path
    results: SweepResults
    table: pd.DataFrame
    pictures: dict[str, Path]

    @property
    def page(self) -> Path:
        """The self-contained page."""
        return self.folder / "report.html"


def make_report(folder: Path) -> Report:
    """Write ``<folder>/report/``: report.html, table.csv, table.md, and every picture as PNG and PDF.

    Raises:
        UserError: the folder holds no sweep, or no trial of it has been evaluated yet.
    """
    results = read_sweep(folder)
    evaluated = evaluations(results)
    if evaluated.empty:
        failed = int((results.trials["state"] == "failed").sum())
        raise UserError(
            f"No trial of the sweep '{results.name}' has been evaluated yet ({len(results.trials)} started, {failed} "
            f"failed); look at {folder / 'trials'} for errors, or wait for the first evaluation."
        )
    sweep_groups = groups(results)
    table = summary(results, sweep_groups, evaluated)
    target = folder / "report"
    target.mkdir(exist_ok=True)
    table.to_csv(target / "table.csv", index=False)
    (target / "table.md").write_text(markdown(table), encoding="utf-8")
    report = Report(target, results, table, _draw(target, sweep_groups, evaluated))
    report.page.write_text(_page(report), encoding="utf-8")
    return report


def _draw(folder: Path, sweep_groups: list[Group], evaluated: pd.DataFrame) -> dict[str, Path]:
    from spin_rl.platform import figures

    spread = "Mean return over seeds; the band is one standard deviation."
    wall_clock = "Wall-clock counts pretraining (dotted) and training, not evaluation."
    if len(sweep_groups) <= _PANELS_TOGETHER:
        parts: dict[str, tuple[str, tuple[str, ...]]] = {
            f"{spread} {wall_clock}": ("learning-curves", ("updates", "seconds"))
        }
    else:
        parts = {
            f"Against policy updates. {spread}": ("learning-curves-updates", ("updates",)),
            f"Against wall-clock. {spread} {wall_clock}": ("learning-curves-time", ("seconds",)),
        }
    pictures = {}
    for caption, (name, axes) in parts.items():
        figures.save(figures.learning_curves(sweep_groups, evaluated, axes), folder / name)
        pictures[caption] = folder / name
    return pictures


def print_report(report: Report, console: Console) -> None:
    """Show the tables, one a group, and where the rest is."""
    for title, rows in report.table.groupby("group", sort=False):
        text = readable(rows)
        table = Table(
            title=str(title),
            title_justify="left",
            title_style="bold",
            box=SIMPLE_HEAD,
            pad_edge=False,
            padding=(0, 1, 0, 0),
        )
        for name in text.columns:
            table.add_column(name, justify="left" if name == "algorithm" else "right", no_wrap=name != "seeds")
        for row in text.to_numpy().tolist():
            table.add_row(*row)
        console.print(table)
    console.print(f"Trials: {states(report.results)}.")
    console.print(f"Report: {report.page}", soft_wrap=True, highlight=False)


def states(results: SweepResults) -> str:
    """How many trials are in which state: ``6 finished, 1 failed``."""
    counts = results.trials["state"].value_counts()
    return ", ".join(f"{count} {state}" for state, count in counts.items())


def _page(report: Report) -> str:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["date"] = lambda seconds: time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    results = report.results
    trials = results.trials
    return templates.get_template("report.html").render(
        sweep=results.record,
        states=states(results),
        made=time.time(),
        tables={title: _rows(rows) for title, rows in report.table.groupby("group", sort=False)},
        pictures={caption: _embedded(path.with_suffix(".png")) for caption, path in report.pictures.items()},
        failures=trials[trials["state"] == "failed"].reset_index().to_dict("records"),
        settings=_flat(results.record["settings"]),
        provenance=_flat(results.record.get("provenance", {})),
    )


def _rows(rows: pd.DataFrame) -> dict[str, Any]:
    text = readable(rows)
    return {"columns": list(text.columns), "rows": text.to_numpy().tolist(), "best": _leaders(rows)}


def _leaders(rows: pd.DataFrame) -> list[bool]:
    """Which rows hold the highest mean return."""
    return list(rows["return_mean"] == rows["return_mean"].max())


def _embedded(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name} ")
        else:
            flat[f"{prefix}{name}"] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return flat
