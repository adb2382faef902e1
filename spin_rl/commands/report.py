"""``spin-rl report`` and ``spin-rl ui``: the results of a sweep."""

from typing import Annotated

import typer

from spin_rl import api
from spin_rl.commands.display import console
from spin_rl.commands.options import StorageOrDefault, TrackingURI
from spin_rl.platform.publishing.report import log_report
from spin_rl.platform.reports.report import print_report
from spin_rl.platform.tracking.server import serve


def report(
    sweep: Annotated[str, typer.Argument(metavar="SWEEP", help="The sweep's name or folder.")],
    storage: StorageOrDefault = None,
    against_paper: Annotated[bool, typer.Option(help="Show the published results beside the measured ones.")] = False,
    mlflow: Annotated[bool, typer.Option(help="Log the report to the sweep's run in MLflow.")] = True,
    promote: Annotated[bool, typer.Option(help="Register the best policy of each task and level as champion.")] = False,
    sync: Annotated[bool, typer.Option(help="Send what MLflow has not received yet, and wait for it.")] = False,
    sweep_file: Annotated[
        str | None, typer.Option(help="The file of a sweep of your own, for its analysis; the file is run.")
    ] = None,
) -> None:
    """Make a sweep's tables, figures and page, finished or not.

    Everything is made from the sweep's files.
    """
    if sync:
        console.print(f"MLflow at {api.sync(sweep, storage=storage)} has everything.", soft_wrap=True)
    made = api.report(sweep, sweep_file=sweep_file, mlflow=False, storage=storage)
    print_report(made, console, paper=against_paper)
    if mlflow:  # after printing: the store may be slow
        with console.status("logging the report to the sweep's run in MLflow ..."):
            log_report(made)
    if promote:
        with console.status("looking for the best policies ...") as status:
            promotions = api.promote(
                made, on_trial=lambda trial: status.update(f"logging the policy of trial {trial} ...")
            )
        for one in promotions:
            new = "is already" if one.version is None else f"is now version {one.version},"
            console.print(f"models:/{one.name}@champion {new} trial {one.trial}.", soft_wrap=True)


def ui(
    storage: StorageOrDefault = None,
    tracking_uri: TrackingURI = None,
    port: Annotated[int, typer.Option(help="Port on this machine; 0 takes a free one.")] = 5000,
) -> None:
    """Serve the runs' MLflow page on this machine until Ctrl-C."""
    serve(storage, tracking_uri, port, console)
