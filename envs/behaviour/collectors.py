"""Stepping the environments of a behaviour training in fixed groups, so that the bits do not depend on the processes.

A group has its own copy of the network and a new random generator for every round. What it collects is a function of
(seed, round, group number, weights), so the groups can be spread over any number of processes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from spin_rl.envs.behaviour.network import Architecture, DecoupledQ, EpsilonGreedy, SoftmaxPolicy
from spin_rl.envs.catalogue import Task, nvec_of
from spin_rl.envs.rollout import rollout
from spin_rl.errors import UserError

EVALUATED = 2
"""Evaluation episodes that are played side by side; the bits of an evaluation depend on it."""

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
    group: int  # environments that share a forward pass
    architecture: Architecture
    sampled: bool = False  # choices are sampled from the softmax of the outputs; otherwise epsilon-greedy

    @property
    def groups(self) -> int:
        """Number of groups.

        Raises:
            UserError: the environments cannot be divided into groups of this size.
        """
        if self.envs < 1 or self.envs % self.group:
            raise UserError(
                f"A training steps its environments in groups of {self.group}: envs={self.envs} is not a multiple of "
                "that."
            )
        return self.envs // self.group

    def policy(self, network: DecoupledQ, epsilon: float) -> SoftmaxPolicy | EpsilonGreedy:
        """The policy that collects with this network."""
        return SoftmaxPolicy(network) if self.sampled else EpsilonGreedy(network, epsilon)


class Group:
    """Environments of a task that are stepped side by side, and the network that acts in them."""

    def __init__(self, task: Task, number: int, collection: Collection) -> None:
        self._task, self._number, self._collection = task, number, collection
        self._envs = [task.make() for _ in range(collection.group)]
        space: Any = self._envs[0].observation_space
        self._network = collection.architecture.network(int(space.shape[0]), nvec_of(self._envs[0]))

    def begin(self, round_: int) -> NDArray[np.float32]:
        """Reset the environments for a round; returns their observations (E, S)."""
        self._generator = np.random.default_rng((self._collection.seed, round_, 1 + self._number))
        seeds = self._generator.integers(2**31, size=len(self._envs))
        first = [env.reset(seed=int(seed))[0] for env, seed in zip(self._envs, seeds, strict=True)]
        self._observation = np.stack(first).astype(np.float32)
        return self._observation

    def advance(self, weights: Weights, epsilons: Sequence[float]) -> Segment:
        """Make one step per entry of ``epsilons`` with the policy of these weights.

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
        """Returns (episodes,) of greedy episodes from ``first_episode`` on, in separate environments."""
        set_weights(self._network, weights)
        policy = EpsilonGreedy(self._network)
        played = rollout(
            self._task.make, policy, episodes=episodes, seed=seed, first_episode=first_episode, batch=EVALUATED
        )
        return played.returns


class Collector(Protocol):
    """Steps all groups, in whatever processes. Every method returns a function that waits for its result."""

    def begin(self, round_: int) -> Callable[[], NDArray[np.float32]]:
        """Reset every group; the result is the observations (E, S)."""

    def advance(self, weights: Weights, epsilons: Sequence[float]) -> Callable[[], Segment]:
        """Step every environment once per entry of ``epsilons``; the result is the segment of all environments."""

    def evaluate(self, weights: Weights, seed: int, episodes: int) -> Callable[[], NDArray[np.float64]]:
        """Play greedy episodes; the result is their returns (episodes,)."""


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
    """Concatenate the groups' segments along the environments, in the order of the groups."""
    return Segment(*(np.concatenate(column, axis=1) for column in zip(*parts, strict=True)))


def weights_of(network: DecoupledQ) -> Weights:
    """A copy of a network's state as NumPy arrays, to send to other processes."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in network.state_dict().items()}


def set_weights(network: DecoupledQ, weights: Weights) -> None:
    """Load what ``weights_of`` copied into a network."""
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            tensor.copy_(torch.tensor(weights[name]))


def refuse_termination(task: Task, results: Sequence[tuple[Any, ...]]) -> None:
    """Raises UserError if a step terminated its episode: the replay memory holds episodes of one length."""
    if any(terminated for _, _, terminated, _, _ in results):
        raise UserError(
            f"{task.key} terminates episodes; behaviour policies can only be trained on tasks of fixed length."
        )
