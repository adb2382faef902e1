"""The report as one self-contained page: pictures embedded, no scripts, nothing fetched; readable in print."""

import base64
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, select_autoescape

from spin_rl.platform.reports.paper import against_paper, conditions, readable_paper
from spin_rl.platform.reports.texts import readable, readable_aggregate, readable_costs

if TYPE_CHECKING:
    from spin_rl.platform.reports.report import Report


def render_page(report: "Report") -> str:
    """The page's HTML."""
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=select_autoescape(),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["date"] = lambda seconds: time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    results, table = report.results, report.table
    compared = against_paper(table, report.groups)
    trials = results.trials
    states = trials["state"].value_counts()
    unfinished = trials[trials["state"].isin(("failed", "killed", "pruned"))]
    return templates.get_template("report.html").render(
        sweep=results.record,
        states=", ".join(f"{count} {state}" for state, count in states.items()),
        made=time.time(),
        last=results.metrics["timestamp"].max(),
        results={title: _cells(readable(rows), _leaders(rows)) for title, rows in table.groupby("group", sort=False)},
        overall=_cells(readable_aggregate(report.overall)) if len(report.overall) else None,
        costs={title: _cells(readable_costs(rows)) for title, rows in table.groupby("group", sort=False)},
        paper={title: _cells(readable_paper(rows)) for title, rows in compared.groupby("group", sort=False)}
        if len(compared)
        else {},
        conditions=conditions(results),
        pictures={caption: _embedded(path.with_suffix(".png")) for caption, path in report.pictures.items()},
        sections=[
            {
                "title": section.title,
                "text": section.text,
                "tables": {title: _cells(text) for title, text in section.tables.items()},
                "pictures": {
                    caption: _embedded(path.with_suffix(".png")) for caption, path in section.pictures.items()
                },
            }
            for section in report.sections
        ],
        unfinished=[_trial(trial) for trial in unfinished.reset_index().to_dict("records")],
        settings=_flat(results.record["settings"]),
        provenance=_flat(results.record.get("provenance", {})),
    )


def _cells(text: pd.DataFrame, best: list[bool] | None = None) -> dict[str, Any]:
    rows = text.to_numpy().tolist()
    return {"columns": list(text.columns), "rows": rows, "best": best or [False] * len(rows)}


def _leaders(rows: pd.DataFrame) -> list[bool]:
    """Which rows have the highest mean return, if there are several."""
    return list((rows["return_mean"] == rows["return_mean"].max()) & (len(rows) > 1))


def _trial(trial: Mapping[str, Any]) -> dict[str, str]:
    words = [trial[name] for name in ("algorithm", "task", "level") if isinstance(trial[name], str)]
    seed = "" if pd.isna(trial["seed"]) else f" seed {int(trial['seed'])}"
    error = trial["error"] if isinstance(trial["error"], str) else ""
    last = error.strip().splitlines()[-1][:200] if error.strip() else ""
    return {
        "name": f"{' '.join(words)}{seed}",
        "id": trial["trial_id"],
        "state": trial["state"],
        "error": error,
        "last": last,
    }


def _embedded(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


_LONGEST = 400


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as one line each; a list of trials, which the tables show, as its length."""
    flat: dict[str, str] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name} ")
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            flat[f"{prefix}{name}"] = str(len(value))
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            flat[f"{prefix}{name}"] = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
    return flat
