"""``spin-rl submit``: a command as a job of a Ray cluster, followed until it has ended."""

import logging
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from spin_rl.errors import UserError
from spin_rl.platform.cluster import jobs
from spin_rl.platform.cluster.client import connect, is_open
from spin_rl.platform.cluster.failures import failure_cause
from spin_rl.platform.cluster.follow import follow
from spin_rl.platform.common.findings import State
from spin_rl.platform.common.places import is_absolute, is_remote


def submit(
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="COMMAND", help="What follows spin-rl, such as: sweep baselines --tiny."),
    ] = None,
    address: Annotated[
        str,
        typer.Option(envvar="RAY_API_SERVER_ADDRESS", help="The cluster's job server."),
    ] = "http://127.0.0.1:8265",
    storage: Annotated[
        str | None,
        typer.Option(help="Folder of the results, mounted by every node; by default the nodes' SPIN_RL_STORAGE."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", "--root", help="Datasets, as every node sees them; by default the nodes' SPIN_RL_DATA."),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="An environment variable of the job, such as MLFLOW_TRACKING_URI; repeatable. Not for secrets: it is "
            "visible to everybody who may list the cluster's jobs.",
        ),
    ] = None,
    pip: Annotated[list[str] | None, typer.Option(help="A package to install for the job; repeatable.")] = None,
    working_dir: Annotated[
        Path,
        typer.Option(help="Folder to send; the job starts in it. .gitignore and .rayignore apply."),
    ] = Path(),
    detach: Annotated[bool, typer.Option("--detach", help="Do not follow the job.")] = False,
    stop: Annotated[
        bool, typer.Option("--stop", help="Stop the job of COMMAND; without COMMAND, the only job that runs.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Submit COMMAND although its job has succeeded.")] = False,
) -> None:
    """Run a spin-rl command as a job of a Ray cluster.

    Sends this folder, follows the log and exits as the job does. The same command again follows the job while it runs,
    and resumes its sweep after it failed or was stopped. Ctrl-C stops following, not the job. The token is read from
    RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token.
    """
    logging.disable(logging.WARNING)  # Ray reports every file that it packs
    console = Console(highlight=False)
    if not command and not stop:
        raise UserError("Name the command to run: spin-rl submit --address URL --storage FOLDER sweep baselines.")
    command, places = _places(command or [], storage, data)
    variables = _variables(env or [])
    client, findings = connect(address if "://" in address else f"http://{address}")
    for finding in findings:
        if finding.state is State.WARNING:
            console.print(f"{finding.subject}: {finding.text}; {finding.fix}.", style="yellow", soft_wrap=True)
    if is_open(findings) and "RAY_AUTH_TOKEN" not in os.environ:
        variables.setdefault("RAY_AUTH_MODE", "disabled")  # the nodes have no token that the job could show
    base = jobs.submission_id(command, places)
    known = jobs.attempts(client, base)
    if stop:
        _stop(client, known if command else jobs.running(client), console)
        return
    while True:
        if known and not jobs.has_ended(known[-1]):
            name = known[-1].submission_id
            console.print(f"The job [bold]{name}[/] is running already; its log follows.", soft_wrap=True)
        elif known and str(known[-1].status) == "SUCCEEDED" and not again:
            console.print(
                f"The job [bold]{known[-1].submission_id}[/] has succeeded already; --again repeats it.", soft_wrap=True
            )
            return
        else:
            name = jobs.next_id(base, known)
            with console.status("packing and sending this folder"):
                jobs.submit(client, name, command, places=places, working_dir=working_dir, env=variables, pip=pip or [])
            console.print(f"Submitted as [bold]{name}[/].", soft_wrap=True)
        if detach:
            console.print("The same command without --detach follows it, --stop stops it.")
            return
        job = _follow(client, name, console)
        if job is not None:
            break
        # Jobs do not outlive their cluster's head; the sweep's files do.
        console.print("[yellow]The cluster was restarted and has lost the job; submitting it again.[/]")
        client, _ = connect(address if "://" in address else f"http://{address}")
        known, again = jobs.attempts(client, base), False
    _judge(client, job, console)


def _places(command: Sequence[str], storage: str | None, data: str | None) -> tuple[list[str], dict[str, str | None]]:
    """The command without the options that name places, and the places.

    Raises:
        UserError: a place means something else on every node.
    """
    places = {"storage": storage, "data": data}
    options = {"--storage": "storage", "--root": "data", "--data": "data"}
    rest: list[str] = []
    words = iter(command)
    for word in words:
        name, is_joined, value = word.partition("=")
        if name in options:
            places[options[name]] = value if is_joined else next(words, None)
        else:
            rest.append(word)
    for name, place in places.items():
        if place is not None and not is_absolute(place):
            raise UserError(
                f"--{name} '{place}' is relative, and a job's folder is deleted after it: name a folder that every "
                "node of the cluster mounts."
            )
    if places["storage"] and is_remote(places["storage"]):
        raise UserError(
            f"--storage {places['storage']} is no folder: results need one that every node mounts; datasets may lie "
            "anywhere (--data)."
        )
    return rest, places


def _variables(given: Sequence[str]) -> dict[str, str]:
    variables = {}
    for pair in given:
        name, is_pair, value = pair.partition("=")
        if not is_pair or not name:
            raise UserError(f"--env '{pair}' is no NAME=VALUE.")
        variables[name] = value
    return variables


def _stop(client: Any, found: list[Any], console: Console) -> None:
    running = [job for job in found if not jobs.has_ended(job)]
    if not running:
        raise UserError("There is no such job running on the cluster: nothing to stop.")
    if len(running) > 1:
        commands = "; ".join((job.metadata or {}).get(jobs.MARK, job.submission_id) for job in running)
        raise UserError(f"{len(running)} jobs are running: name the command of the one to stop ({commands}).")
    name = running[0].submission_id
    with console.status(f"stopping {name}"):
        jobs.stop(client, name)
    console.print(f"Stopped [bold]{name}[/]; the same command without --stop resumes it.", soft_wrap=True)


def _follow(client: Any, name: str, console: Console) -> Any:
    """Show a job's log and state until it ends; None where the cluster has lost the job."""
    began = time.monotonic()
    try:
        with console.status("pending") as status:

            def show(state: str) -> None:
                minutes, seconds = divmod(int(time.monotonic() - began), 60)
                status.update(f"{name}: {state}, followed for {minutes}:{seconds:02d}")

            return follow(client, name, lambda text: console.print(text, end="", markup=False, soft_wrap=True), show)
    except KeyboardInterrupt:
        console.print(f"\nThe job {name} keeps running. The same command follows it again; with --stop it stops it.")
        raise typer.Exit(130) from None


def _judge(client: Any, job: Any, console: Console) -> None:
    """Print how the job ended; the exit code is 0 only where it succeeded."""
    status = str(job.status)
    if status == "SUCCEEDED":
        console.print(f"[green]The job {job.submission_id} has succeeded.[/]", soft_wrap=True)
        return
    if status == "STOPPED":
        console.print(f"[yellow]The job {job.submission_id} was stopped; the same command resumes it.[/]")
        raise typer.Exit(1)
    why = failure_cause(job, client.get_job_logs(job.submission_id) if job.driver_exit_code is not None else "")
    failure = f"The job {job.submission_id} failed: {why}"
    if job.driver_exit_code == 2 or job.driver_exit_code is None:  # the user can fix it
        raise UserError(failure)
    console.print(f"[red]{failure}[/]", markup=False, soft_wrap=True)
    console.print(f"Its log: ray job logs --address {client.get_address()} {job.submission_id}", soft_wrap=True)
    raise typer.Exit(1)
