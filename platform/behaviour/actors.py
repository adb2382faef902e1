"""A behaviour training's environments on Ray actors: they step while the learner learns."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
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
        import torch

        torch.set_num_threads(1)  # rounding depends on it
        self._groups = [Group(task, number, collection) for number in numbers]

    def begin(self, round_: int) -> list[NDArray[np.float32]]:
        return [group.begin(round_) for group in self._groups]

    def advance(self, weights: Weights, epsilons: Sequence[float]) -> list[Segment]:
        return [group.advance(weights, epsilons) for group in self._groups]

    def evaluate(self, weights: Weights, seed: int, first_episode: int, episodes: int) -> NDArray[np.float64]:
        return self._groups[0].evaluate(weights, seed, first_episode, episodes)


class RayCollector:
    """Spreads the groups over ``actors`` Ray actors as runs of neighbours, at most one actor a group.

    Ray has to be there: see ``ray_session``. The bits are those of ``InProcessCollector``.
    """

    def __init__(self, task: Task, collection: Collection, actors: int) -> None:
        import ray

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
        import ray

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
        import ray

        for actor in self._actors:
            ray.kill(actor)


@contextmanager
def open_collector(task: Task, config: BehaviourSettings, actors: int | None) -> Iterator[Collector | None]:
    """What steps the environments of a training; None where it does so itself (``ahead`` = 0).

    Args:
        task: the problem.
        config: the training's.
        actors: Ray actors; 0: none, the environments are stepped in this process. By default one for every CPU but
            the learner's, at most one a group, and none on a machine of one or two.

    Raises:
        UserError: actors are asked for, but the training steps nothing ahead.
    """
    if not config.ahead:
        if actors:
            raise UserError(
                "A training with ahead=0 acts by the newest weights and steps its environments itself; leave out "
                "--actors, or start a training with --set ahead=20."
            )
        yield None
        return
    cpus = os.cpu_count() or 1
    if actors is None:
        actors = 0 if cpus <= 2 and "RAY_ADDRESS" not in os.environ else max(1, cpus - 1)
    if actors == 0:
        yield InProcessCollector(task, config.collection)
        return
    with ray_session(max(cpus, actors)):
        collector = RayCollector(task, config.collection, actors)
        try:
            yield collector
        finally:
            collector.close()


def _sent(weights: Weights, call: Callable[[Any], list[Any]]) -> list[Any]:
    """What ``call`` gives for weights that all actors of a node share one copy of."""
    import ray

    return call(ray.put(weights))


def _gathered(waiting: list[Any]) -> list[Any]:
    """The actors' lists, one after the other."""
    import ray

    return [part for parts in ray.get(waiting) for part in parts]
