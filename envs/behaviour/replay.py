"""Replay memory of rounds: in a round, every environment plays one whole episode, all side by side.

B drawn steps, E environments, T steps per episode, S observation size, N sub-actions.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class ReplayIndices(NamedTuple):
    """Positions of B steps in the memory."""

    slot: NDArray[np.int64]  # (B,)
    step: NDArray[np.int64]  # (B,)
    env: NDArray[np.int64]  # (B,)


class NStepTransitions(NamedTuple):
    """B transitions over n steps."""

    observation: NDArray[np.float32]  # (B, S)
    action: NDArray[np.int64]  # (B, N)
    returns: NDArray[np.float32]  # (B,) discounted sums of the rewards in between
    discount: NDArray[np.float32]  # (B,) of the value of the next observation
    next_observation: NDArray[np.float32]  # (B, S) n steps later, or at the end of the episode


class RoundReplay:
    """The last ``capacity`` rounds of E episodes of T steps, sampled as n-step transitions.

    The tasks never terminate: each episode of a round has exactly T steps and bootstraps at its end.
    """

    def __init__(self, capacity: int, envs: int, steps: int, observation_size: int, sub_actions: int) -> None:
        self.observations = np.zeros((capacity, steps + 1, envs, observation_size), np.float32)
        self.actions = np.zeros((capacity, steps, envs, sub_actions), np.int16)
        self.rewards = np.zeros((capacity, steps, envs), np.float32)
        self.rounds = 0  # rounds started so far; the last one may be unfinished
        self.filled = 0  # steps of the last round so far

    def begin_round(self, observation: NDArray[np.float32]) -> None:
        """Start a round at the observations (E, S) of freshly reset environments."""
        self.rounds += 1
        self.filled = 0
        self.observations[self._slot, 0] = observation

    def append(
        self, action: NDArray[np.int64], reward: NDArray[np.float32], next_observation: NDArray[np.float32]
    ) -> None:
        """Add one step of every environment: actions (E, N), rewards (E,), next observations (E, S)."""
        self.actions[self._slot, self.filled] = action
        self.rewards[self._slot, self.filled] = reward
        self.filled += 1
        self.observations[self._slot, self.filled] = next_observation

    def sample(self, generator: np.random.Generator, batch: int) -> ReplayIndices:
        """Draw ``batch`` steps uniformly."""
        capacity, steps, envs = self.rewards.shape
        finished = min(self.rounds, capacity) - 1  # finished rounds in the memory
        flat = generator.integers(finished * steps + self.filled, size=batch)
        # age 0 is the round in progress: the finished ones are numbered back from it
        age, step = np.divmod(flat, steps)
        current = flat >= finished * steps
        slot = (self.rounds - 1 - np.where(current, 0, age + 1)) % capacity
        step = np.where(current, flat - finished * steps, step)
        return ReplayIndices(slot, step, generator.integers(envs, size=batch))

    def transitions(self, indices: ReplayIndices, n_step: int, gamma: float) -> NStepTransitions:
        """The n-step transitions that start at these steps; they stop at the end of their episode."""
        slot, step, env = indices
        steps = self.rewards.shape[1]
        end = np.where(slot == self._slot, self.filled, steps)
        returns = np.zeros(len(step), np.float32)
        discount = np.ones(len(step), np.float32)
        for k in range(n_step):
            alive = step + k < end
            returns += np.where(alive, discount * self.rewards[slot, np.minimum(step + k, steps - 1), env], 0.0)
            discount = np.where(alive, discount * gamma, discount).astype(np.float32)
        return NStepTransitions(
            observation=self.observations[slot, step, env],
            action=self.actions[slot, step, env].astype(np.int64),
            returns=returns,
            discount=discount,
            next_observation=self.observations[slot, np.minimum(step + n_step, end), env],
        )

    @property
    def latest_observations(self) -> NDArray[np.float32]:
        """Observations (T + 1, E, S) of the round started last, as a view."""
        return self.observations[self._slot]

    @property
    def _slot(self) -> int:
        return (self.rounds - 1) % len(self.rewards)

    @property
    def capacity(self) -> int:
        """Maximum number of rounds in the memory."""
        return len(self.rewards)

    def stored_rounds(self) -> dict[int, dict[str, NDArray[np.generic]]]:
        """The rounds in the memory by number, as views; to be called between rounds."""
        first = max(0, self.rounds - self.capacity)
        return {
            number: {
                "observations": self.observations[number % self.capacity],
                "actions": self.actions[number % self.capacity],
                "rewards": self.rewards[number % self.capacity],
            }
            for number in range(first, self.rounds)
        }

    def restore_round(self, number: int, arrays: dict[str, NDArray[np.generic]]) -> None:
        """Restore a round of ``stored_rounds``; rounds are restored in order, the newest one last."""
        slot = number % self.capacity
        self.observations[slot], self.actions[slot] = arrays["observations"], arrays["actions"]
        self.rewards[slot] = arrays["rewards"]
        self.rounds = number + 1
        self.filled = self.rewards.shape[1]
