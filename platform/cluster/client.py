"""A Ray cluster as its head answers: reached, entered with our token, of a Ray and a Python that will do, how large.

What only the nodes themselves can tell is looked at in ``doctor_nodes``.
"""

import os
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from packaging.version import Version

from spin_rl.platform.common import ray_session  # noqa: F401  # makes settings that Ray reads when it is imported
from spin_rl.platform.common.findings import Finding, State, first_line, raise_problem
from spin_rl.platform.common.pins import requirements

_TIMEOUT = 5.0  # seconds for one answer over the network
_START = "start the cluster (ray start --head), or mend the address: http://host:8265"
_TOKEN = "set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, to the token that the cluster was started with"


_OPEN = "Ray token"


def is_open(findings: Iterable[Finding]) -> bool:
    """Whether the cluster that said ``findings`` asks nobody for a token."""
    return any(finding.subject == _OPEN for finding in findings)


def takes_jobs(address: str) -> bool:
    """Whether ``address`` is that of a cluster's job server, not one that ``ray.init`` connects to."""
    return address.startswith(("http://", "https://"))


def connect(address: str) -> tuple[Any, list[Finding]]:
    """A client of the cluster's job server, and what its head says of it.

    Raises:
        UserError: something is wrong with it; the first problem, with its mend.
    """
    client, findings = look(address)
    raise_problem(findings)
    return client, findings


def look(address: str) -> tuple[Any, list[Finding]]:
    """What the head behind ``address`` says; the client is None where it cannot be used."""
    if finding := _unreachable(address):
        return None, [finding]
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        # Told only to who has the token, the versions are asked for with it.
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
    except Exception as error:  # another service at this port, a Ray too old to know these questions
        return None, [Finding("Ray", State.PROBLEM, f"{address} is no Ray cluster for us: {first_line(error)}", _START)]
    findings = check_cluster_versions(address, cluster["rayVersion"], cluster["pythonVersion"])
    findings.append(_size(address, nodes))
    if open_to_all:
        findings.append(
            Finding(
                _OPEN,
                State.WARNING,
                f"{address} takes jobs from anybody who reaches it",
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
    """What the cluster's versions of Ray and Python mean for this package."""
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
        return [Finding(subject, State.WARNING, text, "use the same where pickled objects are to travel")]
    return [Finding(subject, State.OK, f"Ray {ray}, Python {python}")]


def _size(address: str, nodes: list[dict[str, Any]]) -> Finding:
    alive = [node["raylet"] for node in nodes if node.get("raylet", {}).get("state") == "ALIVE"]
    return judge_resources(address, [node.get("resourcesTotal", {}) for node in alive])


def judge_resources(address: str, nodes: list[dict[str, float]]) -> Finding:
    """The cluster's size, from each living node's resources."""
    cpus, gpus = (sum(node.get(name, 0.0) for node in nodes) for name in ("CPU", "GPU"))
    count = "1 node" if len(nodes) == 1 else f"{len(nodes)} nodes"
    text = f"{address} has {count}: {cpus:g} CPUs, {gpus:g} GPUs"
    if cpus < 1:
        # A cluster that scales by itself, or that has just been started, has them only later.
        return Finding("Ray", State.WARNING, text, "unless nodes are on their way, add one (ray start --address)")
    return Finding("Ray", State.OK, text)


@contextmanager
def _address_of_jobs(address: str) -> Iterator[None]:
    """Make ``address`` count: Ray lets these variables override the one that it is given."""
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
    import requests

    answer = requests.get(url, timeout=_TIMEOUT)
    answer.raise_for_status()
    return str(answer.json()["authentication_mode"])
