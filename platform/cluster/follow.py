"""Following a job: its log as it grows, over connections that may break, until it ends."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from aiohttp import ClientError

from spin_rl.errors import UserError
from spin_rl.platform.cluster.jobs import has_ended
from spin_rl.platform.common.findings import first_line

_LOST_AFTER = 600.0  # seconds without an answer from the cluster
_POLL = 3.0  # seconds between queries for a job's state


def follow(
    client: Any, name: str, print_log: Callable[[str], None], on_state: Callable[[str], None] = lambda _: None
) -> Any:
    """Print a job's log as it grows until the job ends; returns None if the cluster no longer knows the job.

    After a broken connection the log continues where it broke off.

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
                    f"the job {name} continues there, and the same command follows it again."
                ) from error
            on_state(f"no answer for {silent:.0f} s")
            time.sleep(_POLL)
        else:
            if ended is not None:
                return ended
            answered = time.monotonic()


class _Log:
    """Prints a log once, although every connection sends it from its beginning."""

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
        """Whether anything was printed since the last call."""
        moved, self._moved = self._moved, False
        return moved


async def _follow(client: Any, name: str, log: _Log, on_state: Callable[[str], None]) -> Any:
    """Print the log over one connection; returns the job if it has ended, None if only the connection has."""

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
            # The state is polled as well: a connection that breaks silently would wait for ever.
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
