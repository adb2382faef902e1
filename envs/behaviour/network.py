"""The decoupled Q-network of DecQN (arXiv 2210.12566) and the policies that act by it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_SMALLEST_SCALE = 1e-2
"""What hardly moves is not blown up to the size of what does."""


@dataclass(frozen=True)
class Architecture:
    """Of what acts in a behaviour training."""

    width: int
    symlog: bool  # of the observations

    def network(self, observation_size: int, nvec: Sequence[int]) -> "DecoupledQ":
        """One with random weights."""
        return DecoupledQ(observation_size, nvec, self.width, self.symlog)


class DecoupledQ(nn.Module):
    """Utilities of every choice of every sub-action from a state; Q(s, a) is their mean over sub-actions.

    Observations (B, S) to utilities (B, N, C), -inf at choices that do not exist. An observation is centred and scaled
    first: by nothing until ``track`` was called. With ``symlog``, sign(x) log(1 + |x|) is what is centred and scaled
    (Hafner et al. 2023, arXiv 2301.04104): a force that is mostly none and at times hundreds would else be either next
    to nothing or all that a layer sees.
    """

    missing: Tensor
    center: Tensor
    scale: Tensor

    def __init__(
        self,
        observation_size: int,
        nvec: Sequence[int],
        width: int = 512,
        symlog: bool = False,
    ) -> None:
        super().__init__()
        self.nvec = tuple(nvec)
        self.symlog = symlog
        self.body = nn.Sequential(
            nn.Linear(observation_size, width),
            nn.LayerNorm(width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.LayerNorm(width),
            nn.ReLU(),
            nn.Linear(width, len(self.nvec) * max(self.nvec)),
        )
        missing = torch.arange(max(self.nvec)) >= torch.tensor(self.nvec)[:, None]  # (N, C)
        self.register_buffer("missing", missing, persistent=False)
        self.register_buffer("center", torch.zeros(observation_size))
        self.register_buffer("scale", torch.ones(observation_size))
        self.register_load_state_dict_pre_hook(_unscaled_where_untold)  # type: ignore[no-untyped-call]

    def track(self, observations: Tensor, batches: int) -> None:
        """Centre and scale by the mean and standard deviation of all observations so far.

        Args:
            observations: (..., S), what is new; always as many.
            batches: how often this was called, this time included.
        """
        rows = self._squashed(observations.flatten(0, -2))
        share = 1.0 / batches
        variance, mean = torch.var_mean(rows, 0, correction=0)
        moved = mean - self.center
        variance = torch.lerp(self.scale.square(), variance, share) + share * (1 - share) * moved.square()
        self.center += share * moved
        self.scale.copy_(variance.sqrt().clamp_min(_SMALLEST_SCALE))

    def forward(self, observation: Tensor) -> Tensor:
        return self.of_scaled(self.scaled(observation))

    def scaled(self, observation: Tensor) -> Tensor:
        """Observations as the layers see them."""
        return (self._squashed(observation) - self.center) / self.scale

    def of_scaled(self, scaled: Tensor) -> Tensor:
        """The same of observations that are scaled already."""
        features = self.body[:-1](scaled)
        with torch.autocast(features.device.type, enabled=False):  # choices differ by less than bfloat16 resolves
            utilities: Tensor = self.body[-1](features.float()).unflatten(-1, (len(self.nvec), -1))  # (B, N, C)
        return utilities.masked_fill(self.missing, -torch.inf)

    def _squashed(self, observation: Tensor) -> Tensor:
        return observation.sign() * observation.abs().log1p() if self.symlog else observation


def _unscaled_where_untold(network: DecoupledQ, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Weights saved before networks scaled their observations say nothing on it."""
    state.setdefault(f"{prefix}center", torch.zeros_like(network.center))
    state.setdefault(f"{prefix}scale", torch.ones_like(network.scale))


class Drawn:
    """Each sub-action's choice is drawn by the softmax of its outputs."""

    def __init__(self, network: DecoupledQ) -> None:
        self.network = network
        self._nvec = np.array(network.nvec)

    @property
    def draws(self) -> int:
        return len(self._nvec)

    def act(self, observation: NDArray[np.float32], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        with torch.inference_mode():
            there = torch.from_numpy(observation).to(next(self.network.parameters()).device)
            up_to = self.network(there).softmax(-1).cumsum(-1).cpu().numpy()  # (B, N, C)
        drawn: NDArray[np.int64] = (up_to <= uniforms[..., None]).sum(-1)
        return np.minimum(drawn, self._nvec - 1)  # the sum of all may round to less than one


class EpsilonGreedy:
    """Each sub-action is the greedy one, or with probability ``epsilon`` a uniformly drawn one."""

    def __init__(self, network: DecoupledQ, epsilon: float = 0.0) -> None:
        self.network = network
        self.epsilon = epsilon
        self._nvec = np.array(network.nvec)

    @property
    def draws(self) -> int:
        return 2 * len(self._nvec) if self.epsilon > 0 else 0

    def act(self, observation: NDArray[np.float32], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        with torch.inference_mode():
            there = torch.from_numpy(observation).to(next(self.network.parameters()).device)
            greedy: NDArray[np.int64] = self.network(there).argmax(-1).cpu().numpy()
        if self.epsilon == 0:
            return greedy
        decide, choose = np.split(uniforms, 2, axis=1)  # (B, 2 N) -> two of (B, N)
        return np.where(decide < self.epsilon, (choose * self._nvec).astype(np.int64), greedy)


class UniformRandom:
    """Every joint action with the same probability."""

    def __init__(self, nvec: Sequence[int]) -> None:
        self._nvec = np.array(nvec)

    @property
    def draws(self) -> int:
        return len(self._nvec)

    def act(self, observation: NDArray[np.float32], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        return (uniforms * self._nvec).astype(np.int64)
