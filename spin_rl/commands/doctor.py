"""``spin-rl doctor``: what is there, what is wrong, what to do about it."""

from typing import Annotated

import typer


def doctor(
    storage: Annotated[str, typer.Option(envvar="SPIN_RL_STORAGE", help="Where results go.")] = "results",
    data: Annotated[str, typer.Option("--data", "--root", envvar="SPIN_RL_DATA", help="Where datasets lie.")] = "data",
    address: Annotated[
        str | None,
        typer.Option(
            envvar="RAY_ADDRESS",
            help="A Ray cluster to look at, too: http://host:8265 asks all of its nodes by a job, and the places are "
            "then as they see them; auto or host:6379 on a machine of the cluster itself.",
        ),
    ] = None,
    nodes: Annotated[
        bool,
        typer.Option("--nodes", help="Look at the nodes of the cluster that this is part of, and at nothing else."),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON, in one line.")] = False,
) -> None:
    """Say what is there on this machine, and on a cluster, and what is wrong; exit code 2 for a problem."""
    from dataclasses import asdict
    from json import dumps

    from rich.console import Console

    from spin_rl.platform.common.findings import State, raise_problem
    from spin_rl.platform.common.places import is_absolute, is_job_server
    from spin_rl.platform.doctor.cluster import examine_cluster, examine_nodes
    from spin_rl.platform.doctor.examine import examine_machine
    from spin_rl.platform.tracking.store import default_tracking_uri

    styles = {State.OK: "green", State.WARNING: "yellow", State.PROBLEM: "red"}
    console = Console(highlight=False)
    if nodes:
        checks = [examine_nodes(address, {"storage": storage, "data": data})]
    else:
        # Named for a cluster's job server, they are places on its nodes.
        there = [place if is_job_server(address or "") and is_absolute(place) else None for place in (storage, data)]
        here = ["results" if there[0] else storage, "data" if there[1] else data]
        checks = [examine_machine(storage=here[0], data=here[1], tracking_uri=default_tracking_uri(here[0]))]
        if address:
            checks.append(examine_cluster(address, storage=there[0], data=there[1]))
    findings = []
    for finding in (finding for check in checks for finding in check):
        findings.append(finding)
        if json:
            continue
        console.print(f"[{styles[finding.state]}]{finding.state:<8}[/] [bold]{finding.subject}[/]: ", end="")
        console.print(finding.text, markup=False, soft_wrap=True)
        if finding.fix:
            console.print(f"         -> {finding.fix}", markup=False, soft_wrap=True)
    if json:
        print(dumps([asdict(finding) for finding in findings]))
    if nodes and not json:
        raise_problem(findings)
    if any(finding.state is State.PROBLEM for finding in findings):
        raise typer.Exit(2)
