"""A small problem with a ragged action space whose episodes end early, late or by time."""

from functools import partial

import gymnasium
import numpy as np
from gymnasium.spaces import Box, MultiDiscrete

from spin_rl.envs.catalogue import ReferenceScores, Task


class Toy(gymnasium.Env):
    """Observation: a random walk in R^3. Terminates where the walk's first coordinate passes a bound."""

    def __init__(self, steps=12, nvec=(3, 2, 4), terminates=True):
        self.action_space = MultiDiscrete(nvec)
        self.observation_space = Box(-np.inf, np.inf, (3,), np.float32)
        self._steps, self._terminates = steps, terminates

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._state = self.np_random.normal(size=3)
        self._made = 0
        return self._state.astype(np.float32), {}

    def step(self, action):
        self._made += 1
        self._state = self._state + self.np_random.normal(size=3) + 0.1 * (np.sum(action) - 3)
        terminated = bool(self._terminates and self._state[0] > 2)
        truncated = self._made >= self._steps and not terminated
        return self._state.astype(np.float32), float(np.sum(action)), terminated, truncated, {}


def toy_task(**options):
    return Task("toy", 4, partial(Toy, **options), ReferenceScores(0.0, 100.0))
