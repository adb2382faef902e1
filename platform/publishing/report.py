"""A sweep's report in MLflow: the parent's description with the summary, and tables, pictures and page as artifacts."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.entities import Metric

from spin_rl.errors import UserError
from spin_rl.platform.common.json_files import read_json
from spin_rl.platform.reports.report import Report
from spin_rl.platform.reports.texts import markdown, markdown_table, readable_aggregate
from spin_rl.platform.tracking.client import open_client
from spin_rl.platform.tracking.mirror import remembered_mirror
from spin_rl.platform.tracking.run import STATE_FILE, safe_key

logger = logging.getLogger(__name__)


def log_report(report: Report) -> bool:
    """Log a report to its sweep's parent run; False where there is none or the store is not available."""
    note = report.results.folder / STATE_FILE
    if not note.is_file():
        return False
    sent = read_json(note)
    if "run_id" not in sent:
        return False
    try:
        client = open_client(sent["tracking_uri"])
        client.set_tag(sent["run_id"], "mlflow.note.content", description(report))
        client.log_batch(sent["run_id"], metrics=_summary_metrics(report))
        client.log_artifacts(sent["run_id"], str(report.folder), "report")
    except Exception as error:  # the report is on the disk; an unavailable store must not fail the command
        logger.warning("The report could not be logged to MLflow (%s); run `spin-rl report` again to retry.", error)
        return False
    return True


def description(report: Report) -> str:
    """The parent run's description in Markdown: the sweep, as many of its tables as fit, and where to find the rest."""
    record = report.results.record
    before = [_headline(report), record["description"]]
    tables = []
    for section in report.sections:
        before += [f"**{section.title}**", *section.text.splitlines()]
        tables += [f"**{title}**\n\n{markdown_table(text)}" for title, text in section.tables.items()]
    tables += [markdown(rows) for _, rows in report.table.groupby("group", sort=False)]
    if len(report.groups) > 1 and len(report.overall):
        tables.insert(0, f"**Over all tasks**\n\n{markdown_table(readable_aggregate(report.overall))}")
    pictures = [*report.pictures.values(), *(path for section in report.sections for path in section.pictures.values())]
    names = ", ".join(f"`{path.name}.png`" for path in pictures)
    after = [f"Under *Artifacts*, in `report/`: the page `report.html`, all tables, {names}.", _trials(report)]
    if record["command"]:
        after.append(f"Command:\n\n    {record['command']}")
    code = record.get("provenance", {}).get("code", {})
    if code:
        changes = ", with uncommitted changes" if code["dirty"] else ""
        after.append(f"Code: commit `{code['commit'][:12]}`{changes}.")
    left = _LONGEST_NOTE - len(_joined([*before, *after]))
    fitting = []
    for table in tables:
        left -= len(table) + 2
        if left < 0:
            break
        fitting.append(table)
    return _joined([*before, *fitting, *after])[:_LONGEST_NOTE]


_LONGEST_NOTE = 8000
"""Characters that MLflow accepts as a description."""


def _joined(parts: Sequence[str]) -> str:
    return "\n\n".join(part.strip() for part in parts if part.strip())


def _headline(report: Report) -> str:
    """One line for each of the first two groups: MLflow's page collapses everything below."""
    lines = []
    for title, rows in list(report.table.groupby("group", sort=False))[:2]:
        ranked = rows.dropna(subset=["return_mean"]).sort_values("return_mean", ascending=False)
        returns = [f"{row['label']} {row['return_mean']:.1f}" for row in ranked.to_dict("records")]
        lines.append(f"**{title}**, return: {', '.join(returns)}.")
    return "  \n".join(lines)


def _summary_metrics(report: Report) -> list[Any]:
    """Each method's means over groups as metrics of the parent run, so that a list of sweeps can be compared."""
    columns = {"return_mean": "return", "score_mean": "score", "target_seconds": "seconds_to_95", "seconds": "seconds"}
    means = report.table.groupby("label", sort=False)[list(columns)].mean()
    now = int(1000 * time.time())
    return [
        Metric(safe_key(f"{columns[name]}/{label}"), float(value), now, 0)
        for label, row in means.iterrows()
        for name, value in row.items()
        if not np.isnan(value)
    ]


def _trials(report: Report) -> str:
    counts = report.results.trials["state"].value_counts()
    states = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"Trials: {states}. Files: `{report.results.folder}`"


def run_of(folder: Path) -> tuple[Any, str]:
    """A client of the store in which this folder's run is, and the run's id.

    Raises:
        UserError: the folder has no run.
    """
    sent = read_json(folder / STATE_FILE) if (folder / STATE_FILE).is_file() else {}
    if "run_id" not in sent:
        raise UserError(
            f"{folder} has no run in MLflow; if its sweep was tracked, create it with `spin-rl report SWEEP --sync`."
        )
    return open_client(sent["tracking_uri"]), str(sent["run_id"])


def send_rest(folder: Path) -> str:
    """Send the values of a sweep that MLflow has not received yet; returns the store's address.

    Raises:
        UserError: the sweep was not tracked, or the store is not available.
    """
    mirror = remembered_mirror(folder)
    if mirror is None:
        raise UserError(f"{folder} was never tracked in MLflow; leave out --sync, or resume its sweep with tracking.")
    try:
        mirror.sync()
    except UserError:
        raise
    except Exception as error:
        text = str(error).strip().splitlines()[0][:300]
        raise UserError(
            f"MLflow at {mirror.tracking_uri} is not available ({text}); the values are kept, try again later."
        ) from error
    return mirror.tracking_uri
