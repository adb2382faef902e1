"""Calls on an algorithm's learners, which may be in other processes."""

from collections.abc import Callable
from typing import Any

from ray.exceptions import RayTaskError
from ray.rllib.core.learner.learner_group import LearnerGroup

Call = Callable[[Any], Any]
"""What is called with a learner; pickled, where the learner is in another process."""


class Learners:
    """The learners of one algorithm. An error that a call raises is raised here, too, by its own type."""

    def __init__(self, group: LearnerGroup) -> None:
        self._group = group

    def each(self, call: Call) -> list[Any]:
        """What ``call`` returned on every learner."""
        return _values(self._group.foreach_learner(call))

    def first(self, call: Call) -> Any:
        """What ``call`` returned on the first learner."""
        return _values(self._group.foreach_learner(call, remote_actor_ids=None if self._group.is_local else [0]))[0]


def _values(results: Any) -> list[Any]:
    for result in results.result_or_errors:
        if not result.ok:
            error = result.get()
            raise error.cause if isinstance(error, RayTaskError) else error
    return [result.get() for result in results]
