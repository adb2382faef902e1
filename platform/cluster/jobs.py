"""Commands as Ray jobs: their ids, what they start with, their log as it grows, how they ended.

The id of a job is a function of its command: who submits it again meets the same job, not a second one. One that
failed, or was stopped, is submitted again under a number of its own (``...-2``); its command goes on where it stood.
"""

import asyncio
import hashlib
import json
import re
import shlex
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from spin_rl.errors import UserError
from spin_rl.platform.cluster.package import runtime_env
from spin_rl.platform.common.findings import Finding, State, first_line
from spin_rl.platform.common.provenance import CODE, code

RUN = "python -m spin_rl"
"""How a job calls ``spin-rl``: the nodes need not have it installed."""

MARK = "spin-rl"
"""Key of the metadata by which our jobs are known on a cluster."""

_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_GRACE = 60  # seconds for a stopped command to leave its trials resumable
_LOST_AFTER = 600.0  # seconds without an answer of the cluster
_STARTING = 120.0  # seconds in which a cluster that has just been started may not take jobs yet
_POLL = 3.0  # seconds between questions for a job's state


def submission_id(command: Sequence[str], places: Mapping[str, str | None]) -> str:
    """The id of a command's job: its first words, for people, and a digest of all that makes it this one."""
    words = takewhile(lambda word: not word.startswith("-"), command)
    readable = re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")[:40]
    digest = hashlib.blake2b(json.dumps([list(command), dict(places)], sort_keys=True).encode(), digest_size=4)
    return f"spin-rl-{readable}-{digest.hexdigest()}"


def attempts(client: Any, base: str) -> list[Any]:
    """The jobs of a command that the cluster knows, first to last."""
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
    """Whether the job is over, however it went."""
    return str(job.status) in _ENDED


def next_id(base: str, known: Sequence[Any]) -> str:
    """The id for one more attempt at a command."""
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
    """Send ``command`` to the cluster as the job ``name``; its nodes are looked at first, from inside.

    Args:
        client: of the cluster's job server.
        name: the job's id.
        command: what follows ``spin-rl``.
        places: ``storage`` and ``data`` as the nodes see them; those that are None are left to the nodes' own settings.
        working_dir: the folder that the job starts in, sent along.
        env: more environment variables of the job.
        pip: packages that pip installs for the job on every node.
        check: False leaves out the look at the nodes.

    Raises:
        UserError: the folder cannot be sent, or the cluster refuses the job.
    """
    settings = {
        "SPIN_RL_STORAGE": places.get("storage"),
        "SPIN_RL_DATA": places.get("data"),
        # Ctrl-C's signal, and the time to act on it: a sweep that is stopped ends its runs properly.
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
            if "already" in str(error):  # somebody submitted the same a moment ago: theirs is ours
                return
            if "try again later" not in str(error) or time.monotonic() > until:
                raise UserError(f"The cluster refuses the job {name}: {first_line(error)}.") from error
            time.sleep(_POLL)
        else:
            return


def follow(
    client: Any, name: str, print_log: Callable[[str], None], on_state: Callable[[str], None] = lambda _: None
) -> Any:
    """Print a job's log as it grows until the job has ended; None where the cluster does not know the job any more.

    A cut connection is taken up again where it was cut.

    Raises:
        UserError: the cluster has not answered for ten minutes.
    """
    log = _Log(print_log)
    answered = time.monotonic()
    while True:
        try:
            ended = asyncio.run(_follow(client, name, log, on_state))
        except (OSError, RuntimeError) as error:  # those of requests are OSErrors, Ray's RuntimeErrors
            if "status code 404" in str(error):
                return None
            if log.moved():
                answered = time.monotonic()
            silent = time.monotonic() - answered
            if silent > _LOST_AFTER:
                raise UserError(
                    f"The cluster has not answered for {silent / 60:.0f} minutes ({first_line(error)}); if it is up, "
                    f"the job {name} goes on there, and the same command follows it again."
                ) from error
            on_state(f"no answer for {silent:.0f} s")
            time.sleep(_POLL)
        else:
            if ended is not None:
                return ended
            answered = time.monotonic()


class _Log:
    """Prints a log once, though every connection sends it from its beginning."""

    def __init__(self, print_log: Callable[[str], None]) -> None:
        self._print = print_log
        self._printed = 0
        self._seen = 0
        self._moved = False

    def begin(self) -> None:
        self._seen = 0

    def add(self, text: str) -> None:
        new = text[max(0, self._printed - self._seen) :]
        self._seen += len(text)
        if new:
            self._printed += len(new)
            self._moved = True
            self._print(new)

    def moved(self) -> bool:
        """Whether something came since this was last asked."""
        moved, self._moved = self._moved, False
        return moved


async def _follow(client: Any, name: str, log: _Log, on_state: Callable[[str], None]) -> Any:
    """Print the log over one connection; the job where it has ended, None where only the connection has."""

    from aiohttp import ClientError

    async def stream() -> None:
        log.begin()
        try:
            async for text in client.tail_job_logs(name):
                log.add(text)
        except ClientError as error:
            raise ConnectionError(str(error)) from error

    streaming = asyncio.create_task(stream())
    try:
        while True:
            # The state is asked for besides: a connection that is cut without a word would wait for ever.
            await asyncio.wait([streaming], timeout=_POLL)
            job = await asyncio.to_thread(client.get_job_info, name)
            on_state(str(job.status).lower())
            if has_ended(job):
                await asyncio.wait([streaming], timeout=_POLL)
                return job
            if streaming.done():
                streaming.result()
                await asyncio.sleep(_POLL)
                return None
    finally:
        streaming.cancel()
        await asyncio.gather(streaming, return_exceptions=True)


def stop(client: Any, name: str) -> None:
    """Stop a job and wait until it has ended.

    Raises:
        UserError: it does not end.
    """
    client.stop_job(name)
    until = time.monotonic() + 2 * _GRACE
    while not has_ended(client.get_job_info(name)):
        if time.monotonic() > until:
            raise UserError(f"The job {name} does not end; look at it with: ray job logs {name}.")
        time.sleep(1.0)


def cause(job: Any, log: str) -> str:
    """Why a job failed, in a line: its command's own sentence where it said one."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("spin-rl: ")]
    if told:
        return told[-1].removeprefix("spin-rl: ")
    message = str(job.message or "").strip()
    if str(job.error_type or "").endswith("RUNTIME_ENV_SETUP_FAILURE") or "runtime_env" in message[:200].lower():
        return environment_error(message)
    if job.driver_exit_code is None and message:
        return message.splitlines()[0]
    last = lines[-1] if lines else f"exit code {job.driver_exit_code}"
    if "No module named" in last:
        return (
            f"{last}: the 'python' that the cluster's nodes find on their PATH lacks what requirements.txt names; run "
            "them from the image, or activate the environment before 'ray start'."
        )
    return last


def environment_error(message: str) -> str:
    """Why a node could not make a job's environment: pip's own reason, where it gave one."""
    if re.search(r"NewConnectionError|Connection refused|ConnectTimeout|Temporary failure|Max retries", message):
        return (
            "a node cannot reach the package index that pip is set to; mend PIP_INDEX_URL or the network there, or "
            "leave out --pip and put the packages into the image."
        )
    if unknown := re.search(r"requirement (\S+) \(from versions: none\)", message):
        return (
            f"the package index that pip is set to on a node has no {unknown[1]}, or does not answer; mend --pip, or "
            "PIP_INDEX_URL there."
        )
    errors = re.findall(r"^\s*(ERROR: .+)$", message, re.MULTILINE)
    if errors:
        return f"pip failed on a node ({errors[-1]}); mend --pip."
    return (
        f"a node could not make the job's environment ({message.splitlines()[-1] if message else 'no reason given'})."
    )


def check_through_job(client: Any, *, storage: str | None, data: str | None) -> list[Finding]:
    """What the cluster's nodes say of themselves, asked by a job that does nothing else."""
    places = {"storage": storage, "data": data}
    name = f"spin-rl-doctor-{time.time_ns():x}"
    log: list[str] = []
    with tempfile.TemporaryDirectory(prefix="spin-rl-empty-") as folder:
        try:
            command = ["doctor", "--nodes", "--json"]
            submit(client, name, command, places=places, working_dir=Path(folder), check=False)
            job = follow(client, name, log.append)
        except UserError as error:
            return [Finding("nodes", State.PROBLEM, str(error).rstrip("."), "look at the cluster's head")]
    text = "".join(log)
    found = [line for line in text.splitlines() if line.startswith("[{")]
    if not found:
        why = cause(job, text) if job else "its head was restarted"
        return [
            Finding("nodes", State.PROBLEM, f"the job that was to look at them failed: {why}", f"ray job logs {name}")
        ]
    return [Finding(**{**each, "state": State(each["state"])}) for each in json.loads(found[-1])]
