"""Reports of sweeps, and what they publish: values sent to MLflow, policies promoted in its registry."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spin_rl.algorithms.training.checkpoints import load_objective
from spin_rl.errors import UserError
from spin_rl.platform.publishing import models
from spin_rl.platform.publishing.report import log_report, run_of, send_rest
from spin_rl.platform.reports.report import Report, make_report
from spin_rl.platform.reports.sections import Analysis
from spin_rl.platform.results.files import find_sweep
from spin_rl.platform.results.seeds import whole_trial
from spin_rl.sweeps.planning.plan import read_plan
from spin_rl.sweeps.registry import SWEEPS, get_sweep
from spin_rl.sweeps.running.trained_policies import find_policies


def report(
    sweep: str | Path,
    *,
    sweep_file: str | Path | None = None,
    mlflow: bool = True,
    storage: str | Path | None = None,
) -> Report:
    """Make the tables, figures and page of a sweep from its files, whether it is finished or not.

    Example: ``report("baselines").overall``

    Args:
        sweep: the sweep's name or folder.
        sweep_file: the Python file of a sweep of your own, for its analysis; the file is run.
        mlflow: whether to log the report to the sweep's run in MLflow, where it has one and the store can be reached.
        storage: where results lie.

    Returns:
        The tables (`Report.table`, one row per method and task; `Report.overall`, one per method), figures and page.

    Raises:
        UserError: there is no such sweep, or no trial of it has been evaluated.
    """
    folder = find_sweep(str(sweep), storage)
    made = make_report(folder, analysis_of(folder, None if sweep_file is None else str(sweep_file)))
    if mlflow:
        log_report(made)
    return made


def analysis_of(folder: Path, sweep_file: str | None = None) -> Analysis | None:
    """The analysis of the sweep in ``folder``, if it has one.

    A file that the results name is not run: results may come from elsewhere.
    """
    plan = read_plan(folder)
    name = sweep_file or (plan.sweep if plan else "")
    return get_sweep(name).analysis if sweep_file or name in SWEEPS else None


def sync(sweep: str | Path, *, storage: str | Path | None = None) -> str:
    """Send what MLflow has not received of a sweep, and wait for it; returns the store's address.

    Raises:
        UserError: there is no such sweep, it was not tracked, or the store cannot be reached.
    """
    return send_rest(find_sweep(str(sweep), storage))


@dataclass(frozen=True)
class Promotion:
    """A champion in MLflow's registry: ``models:/<name>@champion``.

    Attributes:
        name: the registered model's name, of a task and level.
        trial: id of the trial that it is.
        version: its new version; None where this trial was the champion already.
    """

    name: str
    trial: str
    version: int | None


def promote(made: Report, *, on_trial: Callable[[str], None] | None = None) -> list[Promotion]:
    """Register the best policy of each task and level as its champion.

    Args:
        made: the report of the sweep.
        on_trial: called with a trial's id before its policy is logged, which takes seconds.

    Raises:
        UserError: no method has a finished trial, or the sweep has no run in MLflow.
    """
    winners = models.champions(made)
    if not winners:
        raise UserError("No method of this sweep has a finished trial; there is nothing to promote yet.")
    folder = made.results.folder
    promotions = []
    for name, trial in winners.items():
        client, run_id = run_of(folder / "trials" / whole_trial(trial))
        version = None
        if models.champion_run(client, name) != run_id:
            if on_trial:
                on_trial(trial)
            checkpoint = find_policies(f"{folder}/{trial}", folder.parent)[0].checkpoint
            greedy = not load_objective(checkpoint).sampled
            version = models.promote(client, run_id, checkpoint, name, greedy=greedy)
        promotions.append(Promotion(name, trial, version))
    return promotions
