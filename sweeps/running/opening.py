"""The folder of a sweep: made with its record and its plan, or found again with the same settings."""

import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spin_rl.algorithms.methods import METHODS
from spin_rl.errors import UserError
from spin_rl.platform.results.files import folder_name, start_sweep
from spin_rl.sweeps.planning.plan import SweepPlan, read_plan, write_plan


def open_sweep(plan: SweepPlan, storage: Path) -> Path:
    """Make the folder of ``plan``, or find it; returns it.

    Raises:
        UserError: it holds a sweep with other settings, or a trial's budget does not end with an evaluation.
    """
    for trial in plan.trials:
        _check_budget(trial)
    folder = storage / folder_name(plan.name)
    start_sweep(
        folder,
        name=plan.name,
        description=plan.description,
        command=_without_passwords(shlex.join([_program(), *sys.argv[1:]])),
        settings=plan.summary(),
        methods=methods_of(plan),
    )
    if (kept := read_plan(folder)) is None or kept.search != plan.search:  # a search may have been given more points
        write_plan(folder, plan)
    return folder


def methods_of(plan: SweepPlan) -> dict[str, dict[str, Any]]:
    """How reports show the methods of ``plan``: label, colour, line style and marker, in the order of METHODS."""
    used = {trial["algorithm"] for trial in plan.trials}
    return {name: {"label": method.label, **method.look._asdict()} for name, method in METHODS.items() if name in used}


def _program() -> str:
    """The command that was called; a Ray job calls ours by its file."""
    name = Path(sys.argv[0]).name
    return "spin-rl" if name == "__main__.py" else name


def _without_passwords(command: str) -> str:
    """The command without the passwords in its addresses, which stand between user and host."""
    return re.sub(r"(://[^:/@\s]*):[^@\s]+@", r"\1:***@", command)


def _check_budget(trial: Mapping[str, Any]) -> None:
    updates, interval = trial["updates"], trial.get("evaluate_every", 1)
    if updates % interval:
        raise UserError(
            f"A budget of {updates:,} updates does not end with an evaluation, as there is one every {interval:,}: "
            f"make {max(1, round(updates / interval)) * interval:,} updates, or evaluate every {updates:,}."
        )
