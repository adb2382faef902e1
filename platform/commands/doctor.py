"""``spin-rl doctor``: what is there, what is wrong, what to do about it."""

from typing import Annotated

import typer


def doctor(
    storage: Annotated[str, typer.Option(envvar="SPIN_RL_STORAGE", help="Where results go.")] = "results",
    data: Annotated[str, typer.Option(envvar="SPIN_RL_DATA", help="Where datasets lie.")] = "data",
    address: Annotated[
        str | None, typer.Option(envvar="RAY_ADDRESS", help="Ray cluster: host:6379, or http://host:8265 for jobs.")
    ] = None,
) -> None:
    """Say what is there on this machine and what is wrong; exit code 1 where something has to be mended."""
    from rich.console import Console

    from spin_rl.platform.doctor import State, examine
    from spin_rl.platform.tracking_mirror import default_tracking_uri

    styles = {State.OK: "green", State.WARNING: "yellow", State.PROBLEM: "red"}
    console = Console(highlight=False)
    problems = 0
    for finding in examine(storage=storage, data=data, address=address, tracking_uri=default_tracking_uri(storage)):
        problems += finding.state is State.PROBLEM
        console.print(f"[{styles[finding.state]}]{finding.state:<8}[/] [bold]{finding.subject}[/]: ", end="")
        console.print(finding.text, markup=False, soft_wrap=True)
        if finding.mend:
            console.print(f"         -> {finding.mend}", markup=False, soft_wrap=True)
    if problems:
        raise typer.Exit(1)
