"""``spin-rl report`` and ``spin-rl ui``: look at what a sweep gave."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from spin_rl.platform.reports.report import Report
    from spin_rl.platform.reports.sections import Analysis

Storage = Annotated[str | None, typer.Option(help="Where results lie; ./results by default.", envvar="SPIN_RL_STORAGE")]


def report(
    sweep: Annotated[str, typer.Argument(help="The sweep's name, or its folder.")],
    storage: Storage = None,
    against_paper: Annotated[bool, typer.Option(help="Set the published results beside the measured ones.")] = False,
    mlflow: Annotated[bool, typer.Option(help="Put the report on the sweep's run in MLflow.")] = True,
    promote: Annotated[bool, typer.Option(help="Register the best policy of each task and level as champion.")] = False,
    sync: Annotated[bool, typer.Option(help="Send what MLflow has not taken yet, and wait for it.")] = False,
    sweep_file: Annotated[
        str | None, typer.Option(help="The file of a sweep of your own, for its analysis; it is run.")
    ] = None,
) -> None:
    """Make tables, pictures and a page of a sweep, finished or still running, from its files alone."""
    from rich.console import Console

    from spin_rl.platform.reports.report import make_report, print_report
    from spin_rl.platform.results.files import find_sweep

    console = Console()
    folder = find_sweep(sweep, storage)
    if sync:
        from spin_rl.platform.publishing.report import send_rest

        console.print(f"MLflow at {send_rest(folder)} has everything.", soft_wrap=True)
    made = make_report(folder, analysis_of(folder, sweep_file))
    print_report(made, console, paper=against_paper)
    if mlflow:
        from spin_rl.platform.publishing.report import log_report

        with console.status("putting the report on the sweep's run in MLflow ..."):
            log_report(made)
    if promote:
        _promote(made, console)


def analysis_of(folder: Path, sweep_file: str | None = None) -> "Analysis | None":
    """The analysis that belongs to the sweep in ``folder``, if it has one.

    A file that results name is not run for it: they may come from somebody else.
    """
    from spin_rl.sweeps.planning.plan import read_plan
    from spin_rl.sweeps.registry import SWEEPS, get_sweep

    plan = read_plan(folder)
    name = sweep_file or (plan.sweep if plan else "")
    return get_sweep(name).analysis if sweep_file or name in SWEEPS else None


def _promote(report: "Report", console: "Console") -> None:
    from spin_rl.algorithms.training.checkpoints import load_objective
    from spin_rl.errors import UserError
    from spin_rl.platform.publishing.models import champion_run, champions, promote
    from spin_rl.platform.publishing.report import run_of
    from spin_rl.platform.results.seeds import whole_trial
    from spin_rl.sweeps.running.trained_policies import find_policies

    winners = champions(report)
    if not winners:
        raise UserError("No method of this sweep has a finished trial; there is nothing to promote yet.")
    folder = report.results.folder
    for name, trial_id in winners.items():
        client, run_id = run_of(folder / "trials" / whole_trial(trial_id))
        if champion_run(client, name) == run_id:
            console.print(f"models:/{name}@champion is trial {trial_id} already.", soft_wrap=True)
            continue
        with console.status(f"logging the policy of trial {trial_id} ..."):
            checkpoint = find_policies(f"{folder}/{trial_id}", folder.parent)[0].checkpoint
            number = promote(client, run_id, checkpoint, name, greedy=not load_objective(checkpoint).sampled)
        console.print(f"models:/{name}@champion is now version {number}, trial {trial_id}.", soft_wrap=True)


def ui(
    storage: Storage = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option(help="MLflow's store; a SQLite file in the storage by default.", envvar="MLFLOW_TRACKING_URI"),
    ] = None,
    port: Annotated[int, typer.Option(help="Port on this machine; 0 takes a free one.")] = 5000,
) -> None:
    """Open the MLflow page of the runs, on this machine only, until Ctrl-C."""
    from rich.console import Console

    from spin_rl.platform.tracking.server import serve

    serve(storage, tracking_uri, port, Console())
