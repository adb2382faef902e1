"""Updates made ahead of the iterations that report them, while an evaluation runs elsewhere.

    iteration            learners                             evaluator
    1000                 snapshot of update 1000  --------->  plays episodes
                         train ahead to 1500                    ...
                         train ahead to 2000                    ...
                         results of update 1000  <-----------  done
    1500                 takes what was made for 1500
    2000                 takes what was made for 2000
    2500                 trains

Updates made ahead do not show outside the learners: until an iteration takes them, states, checkpoints and
evaluations are those of the update before. So an evaluation that overlaps with training gives the same bits as one
that training waits for.
"""

import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from spin_rl.algorithms.training.agent import DivergedError

State = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors by name and plain values: everything that the next update depends on."""

Losses = list[dict[str, float]]
"""Mean losses of every seed."""


class _Made(NamedTuple):
    """K updates: the states before them, and what they gave."""

    before: list[State]
    losses: Losses | DivergedError
    updates: int
    seconds: float


class UpdatesAhead:
    """A queue of updates made ahead, K at a time.

    Args:
        train: makes K updates; returns their mean losses.
        states: the state of every seed, as it stands.
    """

    def __init__(self, train: Callable[[int], Losses], states: Callable[[], list[State]]) -> None:
        self._train, self._states = train, states
        self._made: deque[_Made] = deque()

    @property
    def updates(self) -> int:
        """Updates in the queue."""
        return sum(made.updates for made in self._made)

    def make(self, updates: int) -> float:
        """Make ``updates`` more; returns the seconds that they took. ``take`` raises what went wrong in them."""
        before, started = self._states(), time.perf_counter()
        try:
            losses: Losses | DivergedError = self._train(updates)
        except DivergedError as error:
            losses = error
        self._made.append(_Made(before, losses, updates, time.perf_counter() - started))
        return self._made[-1].seconds

    def take(self) -> tuple[Losses, float]:
        """Mean losses of the earliest K updates in the queue, and the seconds that they took.

        Raises:
            DivergedError: a loss was not finite.
        """
        made = self._made.popleft()
        if isinstance(made.losses, DivergedError):
            raise made.losses
        return made.losses, made.seconds

    def states(self) -> list[State]:
        """The state of every seed before the updates in the queue."""
        return self._made[0].before if self._made else self._states()

    def clear(self) -> None:
        """Forget the updates in the queue; the state that they were made from has been replaced."""
        self._made.clear()
