"""Behaviour policies that follow a plan and need no training."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray


class EpsilonScripted:
    """Takes the plan's choice of each sub-action, or with probability ``epsilon`` a uniformly drawn one."""

    def __init__(
        self, plan: Callable[[NDArray[np.float32]], NDArray[np.int64]], nvec: Sequence[int], epsilon: float
    ) -> None:
        self._plan = plan
        self._nvec = np.array(nvec)
        self.epsilon = epsilon

    @property
    def draws(self) -> int:
        return 2 * len(self._nvec)

    def act(self, observation: NDArray[np.float32], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        decide, choose = np.split(uniforms, 2, axis=1)  # (B, 2 N) -> two of (B, N)
        drawn = (choose * self._nvec).astype(np.int64)
        return np.where(decide < self.epsilon, drawn, self._plan(observation))
