"""How far a sweep is, by its files alone: the only reader of trials' states and of the record of a search.

The files are those that `platform.results` writes; what Tune itself remembers of a sweep is not read.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spin_rl.platform.common.json_files import read_json, write_json
from spin_rl.sweeps.planning.plan import SweepPlan

ENDED = ("finished", "pruned", "failed")
"""States of trials that ran to some end."""

DONE = ("finished", "pruned")
"""States of trials that are not run again."""

_SEARCH_RECORD = "search.json"
"""In a search's folder: where its studies are stored, and how many points each complete one has."""


def trial_folder(folder: Path, trial_id: str) -> Path:
    """Where the files of a trial of the sweep in ``folder`` are."""
    return folder / "trials" / trial_id


def trial_state(folder: Path, trial_id: str) -> str | None:
    """The state of a trial; None before it has started."""
    path = trial_folder(folder, trial_id) / "trial.json"
    return str(read_json(path)["state"]) if path.is_file() else None


def trial_records(folder: Path, prefix: str = "") -> Iterator[dict[str, Any]]:
    """The records of all trials that have started, by id; only of those whose ids start with ``prefix``, if given."""
    for path in sorted(folder.glob(f"trials/{prefix}*/trial.json")):
        yield read_json(path)


def mark_pruned(folder: Path, prefix: str) -> None:
    """Mark the trials with this prefix that have not ended as pruned."""
    for record in trial_records(folder, prefix):
        if record["state"] not in ENDED:
            write_json(trial_folder(folder, record["trial_id"]) / "trial.json", {**record, "state": "pruned"})


def open_trials(folder: Path, plan: SweepPlan) -> dict[str, Mapping[str, Any]]:
    """The trials of ``plan`` that still have to be started or resumed, by id, in the plan's order."""
    return {trial_id: trial for trial_id, trial in plan.by_id().items() if trial_state(folder, trial_id) not in DONE}


def is_complete(folder: Path, plan: SweepPlan) -> bool:
    """Whether every trial of ``plan``, or every point of its search, is done."""
    return _is_searched(folder, plan) if plan.search else not open_trials(folder, plan)


def write_search_record(folder: Path, study_storage: str, complete: Mapping[str, int]) -> None:
    """Record how far the search in ``folder`` is.

    Args:
        folder: the sweep's folder.
        study_storage: address of the studies' database, without a password.
        complete: names of the studies that are complete, each with its number of points.
    """
    write_json(folder / _SEARCH_RECORD, {"study_storage": study_storage, "complete": dict(complete)})


def _is_searched(folder: Path, plan: SweepPlan) -> bool:
    path = folder / _SEARCH_RECORD
    complete: Mapping[str, int] = read_json(path)["complete"] if path.is_file() else {}
    return len(complete) == len(plan.search["problems"]) and min(complete.values()) >= plan.search["points"]
