"""All checks of a Ray cluster: its head from here, its nodes from inside."""

import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray

from spin_rl.errors import UserError
from spin_rl.platform.cluster.client import look
from spin_rl.platform.cluster.failures import failure_cause
from spin_rl.platform.cluster.follow import follow
from spin_rl.platform.cluster.jobs import submit
from spin_rl.platform.common.findings import Finding, State
from spin_rl.platform.common.places import is_job_server
from spin_rl.platform.common.ray_session import connect
from spin_rl.platform.doctor.nodes import check_nodes


def examine_cluster(address: str, *, storage: str | None, data: str | None) -> Iterator[Finding]:
    """Findings about a cluster and every node of it.

    Args:
        address: its job server, ``http://host:8265``: then a job examines the nodes, as it does for ``submit``. Or an
            address for ``ray.init``, on a machine of the cluster itself: ``auto``, ``host:6379``.
        storage: where results go, as the nodes see it; by default the cluster's own ``SPIN_RL_STORAGE``.
        data: where datasets are, likewise; ``SPIN_RL_DATA``.
    """
    if address == "local":
        yield Finding("Ray", State.OK, "each command starts its own")
        return
    if is_job_server(address):
        client, findings = look(address)
        yield from findings
        if client is not None and not any(finding.state is State.PROBLEM for finding in findings):
            yield from _examine_by_job(client, storage=storage, data=data)
        return
    yield from examine_nodes(address, {"storage": storage or "results", "data": data or "data"})


def examine_nodes(address: str | None, places: dict[str, str]) -> Iterator[Finding]:
    """Findings about the nodes of the cluster that this machine belongs to.

    Args:
        address: for ``ray.init``; None inside a job.
        places: location by the option that names it (``storage``, ``data``).
    """
    if problem := connect(address):
        yield problem
        return
    try:
        yield from check_nodes(places)
    finally:
        ray.shutdown()


def _examine_by_job(client: Any, *, storage: str | None, data: str | None) -> list[Finding]:
    """Findings about the nodes, from a job that does nothing else."""
    places = {"storage": storage, "data": data}
    name = f"spin-rl-doctor-{time.time_ns():x}"
    log: list[str] = []
    with tempfile.TemporaryDirectory(prefix="spin-rl-empty-") as folder:
        try:
            command = ["doctor", "--nodes", "--json"]
            submit(client, name, command, places=places, working_dir=Path(folder), check=False)
            job = follow(client, name, log.append)
        except UserError as error:
            return [Finding("nodes", State.PROBLEM, str(error).rstrip("."), "check the cluster's head")]
    text = "".join(log)
    found = [line for line in text.splitlines() if line.startswith("[{")]
    if not found:
        why = failure_cause(job, text) if job else "its head was restarted"
        return [
            Finding("nodes", State.PROBLEM, f"the job that was to check them failed: {why}", f"ray job logs {name}")
        ]
    return [Finding(**{**each, "state": State(each["state"])}) for each in json.loads(found[-1])]
