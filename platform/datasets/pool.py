"""Two ways to run independent pieces of work: Ray tasks in parallel, or one after the other in this process."""

import os
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from spin_rl.platform.common.ray_session import ray_session


class InProcess:
    """Runs each piece when its result is requested."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Any, Callable[[], Any]]] = []

    @property
    def free(self) -> bool:
        """Whether another piece may be submitted."""
        return not self._waiting

    def submit(self, key: Any, function: Callable[..., Any], *arguments: Any) -> None:
        self._waiting.append((key, lambda: function(*arguments)))

    def next(self) -> tuple[Any, Any]:
        """Key and result of a finished piece."""
        key, run = self._waiting.pop(0)
        return key, run()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.clear()


class RayPool:
    """Runs up to ``workers`` pieces at once as Ray tasks of one CPU each, by default one per CPU of the cluster."""

    def __init__(self, workers: int | None) -> None:
        import ray  # here, so that datasets are collected and read without Ray where no pool is used

        self._ray = ray
        self._workers = workers
        self._running: dict[Any, Any] = {}
        self._session = ExitStack()

    def __enter__(self) -> Self:
        # a pool wider than this machine is allowed, so that a test of two workers runs on one core
        self._session.enter_context(ray_session(max(os.cpu_count() or 1, self._workers or 1)))
        self._workers = self._workers or int(self._ray.cluster_resources()["CPU"])
        return self

    @property
    def free(self) -> bool:
        """Whether another piece may be submitted."""
        return len(self._running) < (self._workers or 1)

    def submit(self, key: Any, function: Callable[..., Any], *arguments: Any) -> None:
        self._running[self._ray.remote(function).remote(*arguments)] = key

    def next(self) -> tuple[Any, Any]:
        """Key and result of the piece that finishes first."""
        (done,), _ = self._ray.wait(list(self._running), num_returns=1)
        return self._running.pop(done), self._ray.get(done)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._session.close()
