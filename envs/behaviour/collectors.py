"""Stepping a behaviour training's environments: fixed groups, so that the bits do not depend on who steps which.

A group acts by its own copy of the network and draws from a generator of its own for every round. What it collects is a
function of (seed, round, number of the group, weights it was given): any number of processes may share the groups.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from spin_rl.envs.behaviour.network import Architecture, DecoupledQ, Drawn, EpsilonGreedy
from spin_rl.envs.catalogue import Task, nvec_of
from spin_rl.envs.rollout import rollout
from spin_rl.errors import UserError

EVALUATED = 2
"""Episodes of an evaluation that are played side by side; part of what the bits depend on."""

Weights = Mapping[str, NDArray[np.float32]]


class Segment(NamedTuple):
    """L steps of E environments."""

    actions: NDArray[np.int16]  # (L, E, N)
    rewards: NDArray[np.float32]  # (L, E)
    observations: NDArray[np.float32]  # (L, E, S), after each step


@dataclass(frozen=True)
class Collection:
    """How a training's environments are stepped."""

    seed: int
    envs: int
    group: int  # environments that decide together
    architecture: Architecture
    drawn: bool = False  # choices are drawn by the network's outputs; else the greatest is chosen, but for epsilon

    @property
    def groups(self) -> int:
        """Into how many groups the environments go.

        Raises:
            UserError: they fill no groups.
        """
        if self.envs < 1 or self.envs % self.group:
            raise UserError(
                f"A training steps its environments in groups of {self.group}: envs={self.envs} is no multiple of it."
            )
        return self.envs // self.group

    def policy(self, network: DecoupledQ, epsilon: float) -> Drawn | EpsilonGreedy:
        """What acts in the environments."""
        return Drawn(network) if self.drawn else EpsilonGreedy(network, epsilon)


class Group:
    """Environments of a task that are stepped side by side, and the policy that acts in them."""

    def __init__(self, task: Task, number: int, collection: Collection) -> None:
        self._task, self._number, self._collection = task, number, collection
        self._envs = [task.make() for _ in range(collection.group)]
        space: Any = self._envs[0].observation_space
        self._network = collection.architecture.network(int(space.shape[0]), nvec_of(self._envs[0]))

    def begin(self, round_: int) -> NDArray[np.float32]:
        """Reset for a round; the observations (E, S)."""
        self._generator = np.random.default_rng((self._collection.seed, round_, 1 + self._number))
        seeds = self._generator.integers(2**31, size=len(self._envs))
        first = [env.reset(seed=int(seed))[0] for env, seed in zip(self._envs, seeds, strict=True)]
        self._observation = np.stack(first).astype(np.float32)
        return self._observation

    def advance(self, weights: Weights, epsilons: Sequence[float]) -> Segment:
        """A step for each of ``epsilons``, by the policy of these weights.

        Raises:
            UserError: an episode terminates.
        """
        set_weights(self._network, weights)
        steps = []
        for epsilon in epsilons:
            policy = self._collection.policy(self._network, epsilon)
            action = policy.act(self._observation, self._generator.random((len(self._envs), policy.draws)))
            results = [env.step(row) for env, row in zip(self._envs, action, strict=True)]
            refuse_termination(self._task, results)
            self._observation = np.stack([row for row, *_ in results]).astype(np.float32)
            rewards = np.array([reward for _, reward, *_ in results], np.float32)
            steps.append((action.astype(np.int16), rewards, self._observation))
        return Segment(*(np.stack(column) for column in zip(*steps, strict=True)))

    def evaluate(self, weights: Weights, seed: int, first_episode: int, episodes: int) -> NDArray[np.float64]:
        """Returns of greedy episodes from ``first_episode`` on; other environments than those of the training."""
        set_weights(self._network, weights)
        policy = EpsilonGreedy(self._network)
        played = rollout(
            self._task.make, policy, episodes=episodes, seed=seed, first_episode=first_episode, batch=EVALUATED
        )
        return played.returns


class Collector(Protocol):
    """Steps all groups, wherever they live. Results are asked for by calling what a method returns."""

    def begin(self, round_: int) -> Callable[[], NDArray[np.float32]]:
        """Reset every group; then the observations (E, S)."""

    def advance(self, weights: Weights, epsilons: Sequence[float]) -> Callable[[], Segment]:
        """Step every environment once for each of ``epsilons``; then what came of it."""

    def evaluate(self, weights: Weights, seed: int, episodes: int) -> Callable[[], NDArray[np.float64]]:
        """Play greedy episodes; then their returns (episodes,)."""


class InProcessCollector:
    """Steps the groups one after the other, in this process."""

    def __init__(self, task: Task, collection: Collection) -> None:
        self._groups = [Group(task, number, collection) for number in range(collection.groups)]

    def begin(self, round_: int) -> Callable[[], NDArray[np.float32]]:
        first = [group.begin(round_) for group in self._groups]
        return lambda: np.concatenate(first)

    def advance(self, weights: Weights, epsilons: Sequence[float]) -> Callable[[], Segment]:
        parts = [group.advance(weights, epsilons) for group in self._groups]
        return lambda: join_segments(parts)

    def evaluate(self, weights: Weights, seed: int, episodes: int) -> Callable[[], NDArray[np.float64]]:
        returns = self._groups[0].evaluate(weights, seed, 0, episodes)
        return lambda: returns


def join_segments(parts: Sequence[Segment]) -> Segment:
    """One segment of all groups' environments, in the groups' order."""
    return Segment(*(np.concatenate(column, axis=1) for column in zip(*parts, strict=True)))


def weights_of(network: DecoupledQ) -> Weights:
    """A copy of a network's parameters, to be sent around."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in network.state_dict().items()}


def set_weights(network: DecoupledQ, weights: Weights) -> None:
    """Give a network the parameters that ``weights_of`` copied."""
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            tensor.copy_(torch.tensor(weights[name]))


def refuse_termination(task: Task, results: Sequence[tuple[Any, ...]]) -> None:
    """Raises UserError where a step terminated its episode: the replay memory holds episodes of one length."""
    if any(terminated for _, _, terminated, _, _ in results):
        raise UserError(
            f"{task.key} terminates episodes; behaviour policies are trained on tasks of a fixed length only."
        )
