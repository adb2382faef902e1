"""``spin-rl doctor``: what this machine or a cluster has, what is wrong, and how to fix it."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from spin_rl.platform.common.findings import State, raise_problem
from spin_rl.platform.common.places import is_absolute, is_job_server
from spin_rl.platform.doctor.examine import examine_machine
from spin_rl.platform.tracking.store import default_tracking_uri


def doctor(
    storage: Annotated[str, typer.Option(envvar="SPIN_RL_STORAGE", help="Folder of the results.")] = "results",
    data: Annotated[
        str, typer.Option("--data", "--root", envvar="SPIN_RL_DATA", help="Datasets: a folder or any fsspec location.")
    ] = "data",
    address: Annotated[
        str | None,
        typer.Option(
            envvar="RAY_ADDRESS",
            help="A Ray cluster to check, too: http://host:8265 checks all of its nodes by a job, --storage and --data "
            "as they see them; auto or host:6379 on a machine of the cluster itself.",
        ),
    ] = None,
    nodes: Annotated[
        bool,
        typer.Option("--nodes", help="Check only the nodes of the cluster that this machine is part of."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as one line of JSON.")] = False,
) -> None:
    """Check this machine, or a cluster, and say how to fix what is wrong.

    Exit code 2 where something is wrong that has to be fixed.
    """
    styles = {State.OK: "green", State.WARNING: "yellow", State.PROBLEM: "red"}
    console = Console(highlight=False)
    if nodes or address:
        # imports Ray, which a machine to be examined may not have in working order
        from spin_rl.platform.doctor.cluster import examine_cluster, examine_nodes
    if nodes:
        checks = [examine_nodes(address, {"storage": storage, "data": data})]
    else:
        # With a job server, absolute places are those of the cluster's nodes.
        there = [place if is_job_server(address or "") and is_absolute(place) else None for place in (storage, data)]
        here = ["results" if there[0] else storage, "data" if there[1] else data]
        checks = [examine_machine(storage=here[0], data=here[1], tracking_uri=default_tracking_uri(here[0]))]
        if address:
            checks.append(examine_cluster(address, storage=there[0], data=there[1]))
    findings = []
    for finding in (finding for check in checks for finding in check):
        findings.append(finding)
        if as_json:
            continue
        console.print(f"[{styles[finding.state]}]{finding.state:<8}[/] [bold]{finding.subject}[/]: ", end="")
        console.print(finding.text, markup=False, soft_wrap=True)
        if finding.fix:
            console.print(f"         -> {finding.fix}", markup=False, soft_wrap=True)
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings]))
    if nodes and not as_json:
        raise_problem(findings)
    if any(finding.state is State.PROBLEM for finding in findings):
        raise typer.Exit(2)
