"""The points of a study that have not ended, and their trials: waiting or running."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

Queued = tuple[str, Mapping[str, Any]]
"""A trial's id and its parameters."""


class OpenPoints:
    """Open points in the order in which they were drawn.

        open      point 3: (3_0, 3_1)   point 4: (4_0, 4_1)
        running   3_0, 3_1
        queued                          4_0, 4_1

    A point that repeats another has no trials of its own.
    """

    def __init__(self) -> None:
        self._trials: dict[int, tuple[str, ...]] = {}
        self._queue: deque[Queued] = deque()
        self._running: set[str] = set()

    def open(self, number: int, trials: Sequence[str], queued: Sequence[Queued]) -> None:
        """Add a point.

        Args:
            number: of the point.
            trials: ids of all its trials.
            queued: those that have not ended.
        """
        self._trials[number] = tuple(trials)
        self._queue.extend(queued)

    def close(self, number: int) -> None:
        """Remove a point that has ended; trials of it that are still queued are not run."""
        trials = self._trials.pop(number)
        self._queue = deque(entry for entry in self._queue if entry[0] not in trials)

    def start_next(self) -> Queued | None:
        """The next queued trial, which runs from now on; None if none is queued."""
        if not self._queue:
            return None
        entry = self._queue.popleft()
        self._running.add(entry[0])
        return entry

    def stop(self, trial_id: str) -> None:
        """Note that a trial does not run any more."""
        self._running.discard(trial_id)

    def trials(self) -> dict[int, tuple[str, ...]]:
        """The ids of the trials of every open point."""
        return dict(self._trials)

    @property
    def queued(self) -> int:
        """Number of trials that wait."""
        return len(self._queue)

    @property
    def running(self) -> int:
        """Number of trials that run."""
        return len(self._running)
