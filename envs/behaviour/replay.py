"""Replay memory of rounds: a round is one whole episode of every environment, stepped side by side."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Drawn(NamedTuple):
    """Where B steps lie in the memory."""

    slot: NDArray[np.int64]  # (B,)
    step: NDArray[np.int64]  # (B,)
    env: NDArray[np.int64]  # (B,)


class RoundReplay:
    """The last ``capacity`` rounds of E episodes of T steps, sampled as n-step transitions.

    The tasks never terminate: each of a round's episodes has exactly T steps and bootstraps at its end.
    """

    def __init__(self, capacity: int, envs: int, steps: int, observation_size: int, sub_actions: int) -> None:
        self.observations = np.zeros((capacity, steps + 1, envs, observation_size), np.float32)
        self.actions = np.zeros((capacity, steps, envs, sub_actions), np.int16)
        self.rewards = np.zeros((capacity, steps, envs), np.float32)
        self.rounds = 0  # rounds begun so far; the last one may be under way
        self.filled = 0  # its steps so far

    def begin_round(self, observation: NDArray[np.float32]) -> None:
        """Start a round at the observations (E, S) of freshly reset environments."""
        self.rounds += 1
        self.filled = 0
        self.observations[self._slot, 0] = observation

    def append(
        self, action: NDArray[np.int64], reward: NDArray[np.float32], next_observation: NDArray[np.float32]
    ) -> None:
        """One step of every environment: actions (E, N), rewards (E,), next observations (E, S)."""
        self.actions[self._slot, self.filled] = action
        self.rewards[self._slot, self.filled] = reward
        self.filled += 1
        self.observations[self._slot, self.filled] = next_observation

    def draw(self, generator: np.random.Generator, batch: int) -> Drawn:
        """Steps drawn uniformly."""
        capacity, steps, envs = self.rewards.shape
        whole = min(self.rounds, capacity) - 1  # finished rounds that are still held
        flat = generator.integers(whole * steps + self.filled, size=batch)
        # age 0 is the round under way: the finished ones are numbered back from it
        age, step = np.divmod(flat, steps)
        current = flat >= whole * steps
        slot = (self.rounds - 1 - np.where(current, 0, age + 1)) % capacity
        step = np.where(current, flat - whole * steps, step)
        return Drawn(slot, step, generator.integers(envs, size=batch))

    def transitions(
        self, drawn: Drawn, n_step: int, gamma: float
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Of the steps drawn: observation, action, n-step return, discount, observation n steps on; all of B rows."""
        slot, step, env = drawn
        steps = self.rewards.shape[1]
        end = np.where(slot == self._slot, self.filled, steps)
        returns = np.zeros(len(step), np.float32)
        discount = np.ones(len(step), np.float32)
        for k in range(n_step):
            alive = step + k < end
            returns += np.where(alive, discount * self.rewards[slot, np.minimum(step + k, steps - 1), env], 0.0)
            discount = np.where(alive, discount * gamma, discount).astype(np.float32)
        then = np.minimum(step + n_step, end)
        return (
            self.observations[slot, step, env],
            self.actions[slot, step, env].astype(np.int64),
            returns,
            discount,
            self.observations[slot, then, env],
        )

    @property
    def newest(self) -> NDArray[np.float32]:
        """Observations (T + 1, E, S) of the round begun last, as a view."""
        return self.observations[self._slot]

    @property
    def _slot(self) -> int:
        return (self.rounds - 1) % len(self.rewards)

    @property
    def capacity(self) -> int:
        """Rounds that the memory holds at most."""
        return len(self.rewards)

    def held(self) -> dict[int, dict[str, NDArray[np.generic]]]:
        """The rounds held by number, as views; to be called between rounds."""
        first = max(0, self.rounds - self.capacity)
        return {
            number: {
                "observations": self.observations[number % self.capacity],
                "actions": self.actions[number % self.capacity],
                "rewards": self.rewards[number % self.capacity],
            }
            for number in range(first, self.rounds)
        }

    def put(self, number: int, arrays: dict[str, NDArray[np.generic]]) -> None:
        """Take back what ``held`` gave; rounds come in order, and the last is the newest one."""
        slot = number % self.capacity
        self.observations[slot], self.actions[slot] = arrays["observations"], arrays["actions"]
        self.rewards[slot] = arrays["rewards"]
        self.rounds = number + 1
        self.filled = self.rewards.shape[1]
