"""How far a sweep is, by its files alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spin_rl.platform.common.json_files import read_json
from spin_rl.sweeps.planning.plan import SweepPlan

SEARCH_RECORD = "search.json"
"""In a search's folder: where its studies are, and which of them are complete."""

DONE = ("finished", "pruned")
"""States of trials that are not run again."""


def open_trials(folder: Path, plan: SweepPlan) -> dict[str, Mapping[str, Any]]:
    """The trials of ``plan`` that are still to be run, or to be gone on with, by id."""
    return {trial_id: trial for trial_id, trial in plan.by_id().items() if _state(folder, trial_id) not in DONE}


def _state(folder: Path, trial_id: str) -> str | None:
    path = folder / "trials" / trial_id / "trial.json"
    return str(read_json(path)["state"]) if path.is_file() else None


def is_complete(folder: Path, plan: SweepPlan) -> bool:
    """Whether every trial of ``plan``, or every point of its search, has come to its end in ``folder``."""
    return _is_searched(folder, plan) if plan.search else not open_trials(folder, plan)


def _is_searched(folder: Path, plan: SweepPlan) -> bool:
    """Whether the search of ``plan`` in ``folder`` has come to its end; looks at the files alone."""
    path = folder / SEARCH_RECORD
    told: Mapping[str, int] = read_json(path)["complete"] if path.is_file() else {}
    return len(told) == len(plan.search["problems"]) and min(told.values()) >= plan.search["points"]
