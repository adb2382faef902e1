"""A Ray cluster as its head describes it: whether it answers, takes our token, runs suitable versions, and its size.

What only the nodes can say is checked in ``doctor.nodes``.
"""

import os
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import requests
from packaging.version import Version
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from spin_rl.platform.common.findings import Finding, State, first_line, raise_problem
from spin_rl.platform.common.pins import requirements

_TIMEOUT = 5.0  # seconds for one answer over the network
_START = "start the cluster (ray start --head), or correct the address: http://host:8265"
_TOKEN = "set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, to the token that the cluster was started with"


_OPEN = "Ray token"


def is_open(findings: Iterable[Finding]) -> bool:
    """Whether the cluster described by ``findings`` asks for no token."""
    return any(finding.subject == _OPEN for finding in findings)


def connect(address: str) -> tuple[Any, list[Finding]]:
    """A client of the cluster's job server, and the findings about its head.

    Raises:
        UserError: the first problem among the findings, with its fix.
    """
    client, findings = look(address)
    raise_problem(findings)
    return client, findings


def look(address: str) -> tuple[Any, list[Finding]]:
    """A client of the job server at ``address`` and the findings about it; the client is None if it cannot be used."""
    if finding := _unreachable(address):
        return None, [finding]
    try:
        # The mode is public; the versions are only given to clients with the token.
        open_to_all = _ask_without_token(f"{address.rstrip('/')}/api/authentication_mode") == "disabled"
        with _address_of_jobs(address):
            client = JobSubmissionClient(address)
        cluster = _ask(client, "/api/v0/cluster_metadata")
        nodes = _ask(client, "/nodes?view=summary")["summary"]
    except AuthenticationError as error:
        missing = "required" in first_line(error)
        return None, [
            Finding("Ray", State.PROBLEM, f"{address} {'asks for a token' if missing else 'refuses our token'}", _TOKEN)
        ]
    except Exception as error:  # another service at this port, or a Ray too old for these requests
        return None, [
            Finding("Ray", State.PROBLEM, f"{address} is not a usable Ray cluster: {first_line(error)}", _START)
        ]
    findings = check_cluster_versions(address, cluster["rayVersion"], cluster["pythonVersion"])
    findings.append(_size(address, nodes))
    if open_to_all:
        findings.append(
            Finding(
                _OPEN,
                State.WARNING,
                f"{address} accepts jobs from anyone who can reach it",
                "start its nodes with RAY_AUTH_MODE=token and RAY_AUTH_TOKEN",
            )
        )
    return client, findings


def _unreachable(address: str) -> Finding | None:
    parts = urlsplit(address)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        socket.create_connection((parts.hostname or "", port), timeout=_TIMEOUT).close()
    except (OSError, ValueError) as error:
        return Finding("Ray", State.PROBLEM, f"{address} does not answer ({first_line(error)})", _START)
    return None


def check_cluster_versions(address: str, ray: str, python: str) -> list[Finding]:
    """Findings about the cluster's versions of Ray and Python."""
    wanted = next(need.specifier for need in requirements() if need.name == "ray")
    here = ".".join(map(str, sys.version_info[:2]))
    subject = "Ray versions"
    if not wanted.contains(ray):
        text = f"{address} runs Ray {ray}, this package needs {wanted}"
        return [Finding(subject, State.PROBLEM, text, "run the cluster from the image, or install requirements.txt")]
    if Version(python) < Version("3.11"):
        text = f"{address} runs Python {python}, this package needs 3.11 or newer"
        return [Finding(subject, State.PROBLEM, text, "run the cluster from the image, or another Python")]
    if not python.startswith(f"{here}."):
        text = f"{address} runs Python {python}, here is {here}"
        return [Finding(subject, State.WARNING, text, "use the same version if pickled objects are exchanged")]
    return [Finding(subject, State.OK, f"Ray {ray}, Python {python}")]


def _size(address: str, nodes: list[dict[str, Any]]) -> Finding:
    alive = [node["raylet"] for node in nodes if node.get("raylet", {}).get("state") == "ALIVE"]
    return judge_resources(address, [node.get("resourcesTotal", {}) for node in alive])


def judge_resources(address: str, nodes: list[dict[str, float]]) -> Finding:
    """The cluster's size, from the resources of each node that is alive."""
    cpus, gpus = (sum(node.get(name, 0.0) for node in nodes) for name in ("CPU", "GPU"))
    count = "1 node" if len(nodes) == 1 else f"{len(nodes)} nodes"
    text = f"{address} has {count}: {cpus:g} CPUs, {gpus:g} GPUs"
    if cpus < 1:
        # A cluster that autoscales, or has just been started, gets them later.
        return Finding("Ray", State.WARNING, text, "add a node (ray start --address), unless some are starting")
    return Finding("Ray", State.OK, text)


@contextmanager
def _address_of_jobs(address: str) -> Iterator[None]:
    """Make ``address`` take effect: these variables override the one that is passed to Ray's client."""
    names = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ[names[0]] = address
    try:
        yield
    finally:
        del os.environ[names[0]]
        os.environ.update(before)


def _ask(client: Any, path: str) -> Any:
    answer = client._do_request("GET", path, timeout=_TIMEOUT)
    answer.raise_for_status()
    return answer.json()["data"]


def _ask_without_token(url: str) -> str:
    answer = requests.get(url, timeout=_TIMEOUT)
    answer.raise_for_status()
    return str(answer.json()["authentication_mode"])
