"""Batched episodes: one policy call serves many environments, and every episode has its own random numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import gymnasium
import numpy as np
from numpy.typing import NDArray


class BatchPolicy(Protocol):
    """A policy that acts on a batch of observations and draws no random numbers itself."""

    @property
    def draws(self) -> int:
        """Number of uniform random numbers that one decision takes; 0 for a deterministic policy."""

    def act(self, observation: NDArray[np.float32], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        """Joint actions (B, N) for observations (B, S), given uniforms (B, draws) in [0, 1)."""


@dataclass(frozen=True)
class Episode:
    """One episode of T steps.

    observation_0 --action_0--> reward_0, observation_1 -- ... --action_{T-1}--> reward_{T-1}, observation_T
    """

    observations: NDArray[np.float32]  # (T + 1, S)
    actions: NDArray[np.int16]  # (T, N)
    rewards: NDArray[np.float32]  # (T,)
    terminated: bool  # True: a terminal state was reached; False: the time limit

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def episode_return(self) -> float:
        """Undiscounted sum of rewards."""
        return float(self.rewards.sum(dtype=np.float64))


@dataclass(frozen=True)
class Episodes:
    """Result of a rollout: returns and lengths (episodes,), and the episodes themselves if they were recorded."""

    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]
    recorded: list[Episode]


_BLOCK = 64
"""Number of steps to draw random numbers for at once, which is far cheaper than one call per step."""


class _Uniforms:
    """Uniform random numbers for a batch of episodes, each from its own generator."""

    def __init__(self, generators: Sequence[np.random.Generator], draws: int) -> None:
        self._generators = generators
        self._block = np.empty((len(generators), _BLOCK, draws))
        self._used = _BLOCK

    def next(self) -> NDArray[np.float64]:
        if self._used == _BLOCK:
            for row, generator in zip(self._block, self._generators, strict=True):
                generator.random(out=row)
            self._used = 0
        self._used += 1
        return self._block[:, self._used - 1]


def rollout(
    make_env: Callable[[], gymnasium.Env],
    policy: BatchPolicy,
    *,
    episodes: int,
    seed: int,
    first_episode: int = 0,
    batch: int = 10,
    record: bool = False,
    on_step: Callable[[int], None] | None = None,
) -> Episodes:
    """Run whole episodes in batches and return every one of them.

    Episode ``k`` is a function of (policy, ``seed``, ``first_episode + k``): its initial state and its draws come from
    a generator seeded with these. Every episode that starts is finished and counted, so short ones are not favoured.

    Args:
        make_env: builds one environment; ``min(batch, episodes)`` are built.
        episodes: how many episodes to run.
        policy: acts in all of them.
        seed: non-negative; the same seed gives the same episodes.
        first_episode: number of the first one, so that a collection can be split into parts.
        batch: environments stepped side by side.
        record: keep observations, actions and rewards.
        on_step: called with the number of environment steps just made.
    """
    envs = [make_env() for _ in range(min(batch, episodes))]
    try:
        finished: list[Episode] = []
        for start in range(0, episodes, len(envs)):
            numbers = range(first_episode + start, first_episode + min(start + len(envs), episodes))
            finished += _run_batch(envs[: len(numbers)], policy, seed, numbers, record, on_step)
    finally:
        for env in envs:
            env.close()
    return Episodes(
        returns=np.array([episode.episode_return for episode in finished]),
        lengths=np.array([len(episode) for episode in finished]),
        recorded=finished if record else [],
    )


def _run_batch(
    envs: list[gymnasium.Env],
    policy: BatchPolicy,
    seed: int,
    numbers: range,
    record: bool,
    on_step: Callable[[int], None] | None,
) -> list[Episode]:
    generators = [np.random.default_rng((seed, number)) for number in numbers]
    first = [env.reset(seed=int(generator.integers(2**31)))[0] for env, generator in zip(envs, generators, strict=True)]
    observation = np.stack(first).astype(np.float32)
    uniforms = _Uniforms(generators, policy.draws)
    observations: list[list[NDArray[np.float32]]] = [[row.copy()] if record else [] for row in observation]
    actions: list[list[NDArray[np.int16]]] = [[] for _ in envs]
    rewards: list[list[float]] = [[] for _ in envs]
    terminated = [False] * len(envs)
    active = list(range(len(envs)))
    while active:
        # Finished episodes stay in the batch: its size decides how the policy's results are rounded.
        action = policy.act(observation, uniforms.next())
        unfinished = []
        for index in active:
            next_observation, reward, ended, truncated, _ = envs[index].step(action[index])
            observation[index] = next_observation
            rewards[index].append(float(reward))
            if record:
                observations[index].append(observation[index].copy())
                actions[index].append(action[index].astype(np.int16))
            if ended or truncated:
                terminated[index] = ended
            else:
                unfinished.append(index)
        if on_step:
            on_step(len(active))
        active = unfinished
    return [
        Episode(
            observations=np.stack(observations[index]) if record else np.empty((0, 0), np.float32),
            actions=np.stack(actions[index]) if record else np.empty((0, 0), np.int16),
            rewards=np.array(rewards[index], np.float32),
            terminated=terminated[index],
        )
        for index in range(len(envs))
    ]
