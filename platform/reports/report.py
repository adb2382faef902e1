"""The report of a sweep, finished or not, made from its files alone: tables, pictures and one page."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from spin_rl.errors import UserError
from spin_rl.platform.reports import costs, curves, style
from spin_rl.platform.reports.groups import Group, evaluations, groups
from spin_rl.platform.reports.page import render_page
from spin_rl.platform.reports.paper import against_paper, conditions, readable_paper
from spin_rl.platform.reports.sections import Analysis, Section, write_sections
from spin_rl.platform.reports.tables import aggregate, baseline_labels, final_scores, summary
from spin_rl.platform.reports.texts import latex, markdown, readable, readable_aggregate
from spin_rl.platform.results.files import SweepResults, read_sweep
from spin_rl.platform.results.seeds import one_seed_each

_PANELS_TOGETHER = 3
"""Up to this many groups, the curves against updates and against wall-clock share a picture."""


@dataclass(frozen=True)
class Report:
    """What `make_report` wrote.

    Attributes:
        folder: the folder of its files.
        results: what it was made from.
        groups: the comparable trials.
        table: one row for each method of each group (`tables.summary`).
        overall: one row for each method over all groups (`tables.aggregate`).
        pictures: paths of the pictures without suffix, by caption.
        sections: the sweep's own sections.
    """

    folder: Path
    results: SweepResults
    groups: list[Group]
    table: pd.DataFrame
    overall: pd.DataFrame
    pictures: dict[str, Path] = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)

    @property
    def page(self) -> Path:
        """The self-contained page."""
        return self.folder / "report.html"


def make_report(folder: Path, analysis: Analysis | None = None) -> Report:
    """Write ``<folder>/report/``: report.html, the tables as CSV, Markdown and LaTeX, every picture as PNG and PDF.

    Args:
        folder: the sweep's folder.
        analysis: makes the sweep's own sections; none by default.

    Raises:
        UserError: the folder holds no sweep, or no trial of it has been evaluated yet.
    """
    results = one_seed_each(read_sweep(folder))
    evaluated = evaluations(results)
    if evaluated.empty:
        failed = int((results.trials["state"] == "failed").sum())
        raise UserError(
            f"No trial of the sweep '{results.name}' has been evaluated yet ({len(results.trials)} started, {failed} "
            f"failed); look at {folder / 'trials'} for errors, or wait for the first evaluation."
        )
    sweep_groups = groups(results)
    table = summary(results, sweep_groups, evaluated)
    scores = final_scores(sweep_groups, evaluated)
    overall = aggregate(scores, baseline_labels(sweep_groups))

    target = folder / "report"
    target.mkdir(exist_ok=True)
    table.to_csv(target / "table.csv", index=False)
    overall.to_csv(target / "overall.csv", index=False)
    (target / "table.md").write_text(markdown(table), encoding="utf-8")
    (target / "table.tex").write_text(latex(table), encoding="utf-8")
    pictures = _draw(target, sweep_groups, evaluated, table, overall, scores)
    sections = write_sections(analysis, results, target)
    report = Report(target, results, sweep_groups, table, overall, pictures, sections)
    report.page.write_text(render_page(report), encoding="utf-8")
    return report


def _draw(
    folder: Path,
    sweep_groups: list[Group],
    evaluated: pd.DataFrame,
    table: pd.DataFrame,
    overall: pd.DataFrame,
    scores: Mapping[str, list[np.ndarray]],
) -> dict[str, Path]:
    """Every picture that the results allow, by caption."""
    styles = costs.looks(sweep_groups)
    spread = "Mean return over seeds; the band is one standard deviation."
    clock = "Wall-clock counts pretraining (dotted) and training, not evaluation."
    drawn = {}
    if len(sweep_groups) <= _PANELS_TOGETHER:
        both = curves.learning_curves(sweep_groups, evaluated, ("updates", "seconds"))
        drawn[f"Learning curves. {spread} {clock}"] = ("learning-curves", both)
    else:
        by_updates = curves.learning_curves(sweep_groups, evaluated, ("updates",))
        by_clock = curves.learning_curves(sweep_groups, evaluated, ("seconds",))
        drawn[f"Learning curves against policy updates. {spread}"] = ("learning-curves-updates", by_updates)
        drawn[f"Learning curves against wall-clock. {spread} {clock}"] = ("learning-curves-time", by_clock)
    if table["target_seconds"].notna().any():
        caption = (
            "Time to target: wall-clock until a method's mean curve reaches 95 % of the final return of the factored "
            "policy with the same objective."
        )
        drawn[caption] = ("time-to-target", costs.time_to_target(table, styles))
    if scores:
        caption = (
            "Over all tasks: interquartile mean of the normalised score with its bootstrap interval, and the "
            "share of runs that score above a threshold (performance profile)."
        )
        drawn[caption] = ("over-all-tasks", costs.over_all_tasks(overall, scores, styles))
    if table[["seconds", "score_mean"]].notna().all(axis=1).any():
        caption = "Score against cost, means over tasks; the line is the Pareto front."
        drawn[caption] = ("pareto", costs.pareto(table, styles))
        drawn["Seconds of each stage, means over tasks."] = ("cost", costs.cost_split(table, styles))
    for name, figure in drawn.values():
        style.save(figure, folder / name)
    return {caption: folder / name for caption, (name, _) in drawn.items()}


def print_report(report: Report, console: Console, *, paper: bool = False) -> None:
    """Print the tables, one for each group, and the address of the page.

    Args:
        report: the report.
        console: where to print it.
        paper: compare with the published results.

    Raises:
        UserError: ``paper``, and the paper has no result for anything in the sweep.
    """
    for title, rows in report.table.groupby("group", sort=False):
        _print_table(console, str(title), readable(rows))
    if len(report.groups) > 1 and len(report.overall):
        _print_table(console, "over all tasks", readable_aggregate(report.overall))
    for section in report.sections:
        for title, text in section.tables.items():
            _print_table(console, f"{section.title}: {title}", text)
        if section.text:
            console.print(section.text, highlight=False)
    if paper:
        compared = against_paper(report.table, report.groups)
        if compared.empty:
            raise UserError(
                "The paper has no result for anything in this sweep; its table covers IQL on ten of the tasks."
            )
        for title, rows in compared.groupby("group", sort=False):
            _print_table(console, f"{title}, beside the paper", readable_paper(rows))
        console.print(conditions(report.results))
    console.print(f"Trials: {states(report.results)}.")
    console.print(f"Report: {report.page}", soft_wrap=True, highlight=False)


def _print_table(console: Console, title: str, text: pd.DataFrame) -> None:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.pad_edge, table.padding = False, (0, 1, 0, 0)  # the longest rows fit into 80 columns
    for number, name in enumerate(text.columns):
        last = number == len(text.columns) - 1
        table.add_column(name, justify="right" if number else "left", no_wrap=number > 0 and not last)
    for row in text.to_numpy().tolist():
        table.add_row(*row)
    console.print(table)


def states(results: SweepResults) -> str:
    """How many trials are in which state: ``6 finished, 1 failed``."""
    counts = results.trials["state"].value_counts()
    return ", ".join(f"{count} {state}" for state, count in counts.items())
