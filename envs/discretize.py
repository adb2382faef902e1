"""Turn a continuous environment into one with a MultiDiscrete action space."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, MultiDiscrete
from numpy.typing import NDArray

from spin_rl.errors import UserError


class Discretized(gymnasium.ActionWrapper[Any, Any, NDArray[Any]]):
    """Each action dimension takes one of several equally spaced values, its minimum and maximum included."""

    def __init__(self, env: gymnasium.Env[Any, Any], bins: int | Sequence[int]) -> None:
        super().__init__(env)
        space = env.action_space
        if not isinstance(space, Box) or not space.is_bounded() or len(space.shape) != 1:
            raise UserError(f"Only a bounded one-dimensional Box can be discretised, not the action space {space}.")
        nvec = [bins] * space.shape[0] if isinstance(bins, int) else list(bins)
        if len(nvec) != space.shape[0] or min(nvec) < 2:
            raise UserError(f"The action has {space.shape[0]} dimensions; give each at least 2 bins, not {nvec}.")
        self._values = [np.linspace(low, high, n) for low, high, n in zip(space.low, space.high, nvec, strict=True)]
        self._dtype = space.dtype
        self.action_space = MultiDiscrete(nvec)

    def action(self, action: NDArray[np.int64]) -> NDArray[Any]:
        return np.array([values[choice] for values, choice in zip(self._values, action, strict=True)], self._dtype)


def discretize(env: gymnasium.Env[Any, Any], bins: int | Sequence[int]) -> gymnasium.Env[Any, Any]:
    """Wrap a continuous environment so that each action dimension has ``bins`` equally spaced values.

    Args:
        env: with a bounded one-dimensional Box as its action space.
        bins: at least 2; one number for all dimensions, or one for each.

    Raises:
        UserError: the action space is another one, or the bins do not fit it.
    """
    return Discretized(env, bins)
