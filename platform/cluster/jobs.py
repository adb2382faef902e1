"""Commands as Ray jobs: their ids, their environment, submitting and stopping them.

The id of a job is a function of its command, so that submitting a command again finds the same job instead of starting
a second one. After a failure or a stop it is submitted again under a numbered id (``...-2``), and its command resumes.
"""

import hashlib
import json
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from spin_rl.errors import UserError
from spin_rl.platform.cluster.package import runtime_env
from spin_rl.platform.common.findings import first_line
from spin_rl.platform.common.provenance import CODE, code

RUN = "python -m spin_rl"
"""How a job calls ``spin-rl``, which the nodes need not have installed."""

MARK = "spin-rl"
"""Metadata key that marks our jobs on a cluster."""

_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_GRACE = 60  # seconds for a stopped command to leave its trials resumable
_STARTING = 120.0  # seconds during which a cluster that has just been started may refuse jobs
_RETRY = 3.0  # seconds between attempts to submit


def submission_id(command: Sequence[str], places: Mapping[str, str | None]) -> str:
    """The id of a command's job: its first words, for readability, and a digest of the command and its places."""
    words = takewhile(lambda word: not word.startswith("-"), command)
    readable = re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")[:40]
    digest = hashlib.blake2b(json.dumps([list(command), dict(places)], sort_keys=True).encode(), digest_size=4)
    return f"spin-rl-{readable}-{digest.hexdigest()}"


def attempts(client: Any, base: str) -> list[Any]:
    """The jobs of a command that the cluster knows, oldest first."""
    numbered = re.compile(re.escape(base) + r"(?:-(\d+))?")
    found = []
    for job in client.list_jobs():
        match = numbered.fullmatch(job.submission_id or "")
        if match:
            found.append((int(match[1] or 1), job))
    return [job for _, job in sorted(found, key=lambda pair: pair[0])]


def running(client: Any) -> list[Any]:
    """Our jobs that have not ended."""
    return [job for job in client.list_jobs() if MARK in (job.metadata or {}) and not has_ended(job)]


def has_ended(job: Any) -> bool:
    """Whether the job has ended, in whatever way."""
    return str(job.status) in _ENDED


def next_id(base: str, known: Sequence[Any]) -> str:
    """The id of the next attempt at a command."""
    if not known:
        return base
    last = known[-1].submission_id.removeprefix(base).lstrip("-")
    return f"{base}-{int(last or 1) + 1}"


def submit(
    client: Any,
    name: str,
    command: Sequence[str],
    *,
    places: Mapping[str, str | None],
    working_dir: Path,
    env: Mapping[str, str] | None = None,
    pip: Sequence[str] = (),
    check: bool = True,
) -> None:
    """Submit ``command`` to the cluster as the job ``name``, which first checks the nodes from inside.

    Args:
        client: client of the cluster's job server.
        name: the job's id.
        command: the words after ``spin-rl``.
        places: ``storage`` and ``data`` as the nodes see them; None leaves one to the nodes' own settings.
        working_dir: the folder that is uploaded and that the job starts in.
        env: more environment variables of the job.
        pip: packages that pip installs for the job on every node.
        check: False skips the check of the nodes.

    Raises:
        UserError: the folder cannot be uploaded, or the cluster refuses the job.
    """
    settings = {
        "SPIN_RL_STORAGE": places.get("storage"),
        "SPIN_RL_DATA": places.get("data"),
        # Ctrl-C's signal and time to act on it, so that a sweep that is stopped closes its runs properly.
        "RAY_JOB_STOP_SIGNAL": "SIGINT",
        "RAY_JOB_STOP_WAIT_TIME_S": str(_GRACE),
        CODE: json.dumps(code()),
        **(env or {}),
    }
    entrypoint = f"{RUN} {shlex.join(command)}"
    if check:
        entrypoint = f"{RUN} doctor --nodes && {entrypoint}"
    variables = {name: value for name, value in settings.items() if value is not None}
    environment = runtime_env(working_dir, env=variables, pip=pip)
    _send(client, name, entrypoint, environment, {MARK: shlex.join(command)})


def _send(client: Any, name: str, entrypoint: str, environment: dict[str, Any], metadata: dict[str, str]) -> None:
    until = time.monotonic() + _STARTING
    while True:
        try:
            client.submit_job(
                entrypoint=entrypoint, submission_id=name, runtime_env=environment, metadata=dict(metadata)
            )
        except RuntimeError as error:
            if "already" in str(error):  # the same job, submitted by another process a moment ago
                return
            if "try again later" not in str(error) or time.monotonic() > until:
                raise UserError(f"The cluster refuses the job {name}: {first_line(error)}.") from error
            time.sleep(_RETRY)
        else:
            return


def stop(client: Any, name: str) -> None:
    """Stop a job and wait until it has ended.

    Raises:
        UserError: it does not end.
    """
    client.stop_job(name)
    until = time.monotonic() + 2 * _GRACE
    while not has_ended(client.get_job_info(name)):
        if time.monotonic() > until:
            raise UserError(f"The job {name} does not end; see its log: ray job logs {name}.")
        time.sleep(1.0)
