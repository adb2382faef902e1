"""Ray actors that step the environments of a behaviour training while the learner learns."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray

from spin_rl.envs.behaviour.collectors import (
    EVALUATED,
    Collection,
    Collector,
    Group,
    InProcessCollector,
    Segment,
    Weights,
    join_segments,
)
from spin_rl.envs.behaviour.settings import BehaviourSettings
from spin_rl.envs.catalogue import Task
from spin_rl.errors import UserError
from spin_rl.platform.common.ray_session import ray_session


class _Stepper:
    """Holds some of the groups; one Ray actor of one CPU."""

    def __init__(self, task: Task, numbers: Sequence[int], collection: Collection) -> None:
        torch.set_num_threads(1)  # rounding depends on it
        self._groups = [Group(task, number, collection) for number in numbers]

    def begin(self, round_: int) -> list[NDArray[np.float32]]:
        return [group.begin(round_) for group in self._groups]

    def advance(self, weights: Weights, epsilons: Sequence[float]) -> list[Segment]:
        return [group.advance(weights, epsilons) for group in self._groups]

    def evaluate(self, weights: Weights, seed: int, first_episode: int, episodes: int) -> NDArray[np.float64]:
        return self._groups[0].evaluate(weights, seed, first_episode, episodes)


class RayCollector:
    """Spreads the groups over up to ``actors`` Ray actors, each with consecutive groups; at most one actor per group.

    Ray must be running: see ``ray_session``. The bits are those of ``InProcessCollector``.
    """

    def __init__(self, task: Task, collection: Collection, actors: int) -> None:
        stepper: Any = ray.remote(num_cpus=1)(_Stepper)
        runs = np.array_split(np.arange(collection.groups), min(actors, collection.groups))
        self._actors = [stepper.remote(task, run.tolist(), collection) for run in runs]

    def begin(self, round_: int) -> Callable[[], NDArray[np.float32]]:
        waiting = [actor.begin.remote(round_) for actor in self._actors]
        return lambda: np.concatenate(_gathered(waiting))

    def advance(self, weights: Weights, epsilons: Sequence[float]) -> Callable[[], Segment]:
        waiting = _sent(weights, lambda sent: [actor.advance.remote(sent, epsilons) for actor in self._actors])
        return lambda: join_segments(_gathered(waiting))

    def evaluate(self, weights: Weights, seed: int, episodes: int) -> Callable[[], NDArray[np.float64]]:
        firsts = range(0, episodes, EVALUATED)
        waiting = _sent(
            weights,
            lambda sent: [
                self._actors[number % len(self._actors)].evaluate.remote(
                    sent, seed, first, min(EVALUATED, episodes - first)
                )
                for number, first in enumerate(firsts)
            ],
        )
        return lambda: np.concatenate(ray.get(waiting))

    def close(self) -> None:
        """End the actors."""
        for actor in self._actors:
            ray.kill(actor)


@contextmanager
def open_collector(task: Task, settings: BehaviourSettings, actors: int | None) -> Iterator[Collector | None]:
    """The collector for a training; None if the training steps its environments itself (``ahead`` = 0).

    Args:
        task: the problem.
        settings: of the training.
        actors: number of Ray actors; 0 steps the environments in this process. By default one per CPU except the
            learner's, at most one per group, and 0 on a machine with one or two CPUs.

    Raises:
        UserError: actors are requested for a training with ``ahead`` = 0.
    """
    if not settings.ahead:
        if actors:
            raise UserError(
                "A training with ahead=0 acts with the newest weights and steps its environments itself; leave out "
                "--actors, or start a training with --set ahead=20."
            )
        yield None
        return
    cpus = os.cpu_count() or 1
    if actors is None:
        actors = 0 if cpus <= 2 and "RAY_ADDRESS" not in os.environ else max(1, cpus - 1)
    if actors == 0:
        yield InProcessCollector(task, settings.collection)
        return
    with ray_session(max(cpus, actors)):
        collector = RayCollector(task, settings.collection, actors)
        try:
            yield collector
        finally:
            collector.close()


def _sent(weights: Weights, call: Callable[[Any], list[Any]]) -> list[Any]:
    """Result of ``call`` with a reference to the weights, so that all actors of a node share one copy."""
    return call(ray.put(weights))


def _gathered(waiting: list[Any]) -> list[Any]:
    """The actors' lists, concatenated."""
    return [part for parts in ray.get(waiting) for part in parts]
