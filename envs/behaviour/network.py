"""The decoupled Q-network of DecQN (arXiv 2210.12566) and the policies that act on its outputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

_SMALLEST_SCALE = 1e-2
"""Keeps components that hardly vary from being amplified."""


@dataclass(frozen=True)
class Architecture:
    """Architecture of the acting network of a behaviour training."""

    width: int
    symlog: bool  # apply symlog to observations

    def network(self, observation_size: int, nvec: Sequence[int]) -> "DecoupledQ":
        """A network with random weights."""
        return DecoupledQ(observation_size, nvec, self.width, self.symlog)


class DecoupledQ(nn.Module):
    """Utilities of every choice of every sub-action in a state; Q(s, a) is the mean of the chosen utilities.

    Maps observations (B, S) to utilities (B, N, C), -inf for choices that do not exist. Observations are first centred
    and scaled, which has no effect until ``track`` is called. With ``symlog``, it is sign(x) log(1 + |x|) that is
    centred and scaled (Hafner et al. 2023, arXiv 2301.04104): otherwise a force that is usually zero and sometimes
    hundreds would either vanish or dominate a layer's input.
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
        self.register_load_state_dict_pre_hook(_default_scaling)  # type: ignore[no-untyped-call]

    def track(self, observations: Tensor, batches: int) -> None:
        """Centre and scale by the mean and standard deviation of all observations so far.

        Args:
            observations: (..., S), new ones; the same number in every call.
            batches: number of calls so far, including this one.
        """
        rows = self._squashed(observations.flatten(0, -2))
        share = 1.0 / batches
        variance, mean = torch.var_mean(rows, 0, correction=0)
        moved = mean - self.center
        variance = torch.lerp(self.scale.square(), variance, share) + share * (1 - share) * moved.square()
        self.center += share * moved
        self.scale.copy_(variance.sqrt().clamp_min(_SMALLEST_SCALE))

    def forward(self, observation: Tensor) -> Tensor:
        return self.forward_scaled(self.scaled(observation))

    def scaled(self, observation: Tensor) -> Tensor:
        """Observations (B, S), centred and scaled as the layers see them."""
        return (self._squashed(observation) - self.center) / self.scale

    def forward_scaled(self, scaled: Tensor) -> Tensor:
        """Utilities (B, N, C) of observations (B, S) that are already scaled."""
        features = self.body[:-1](scaled)
        with torch.autocast(features.device.type, enabled=False):  # choices can differ by less than bfloat16 resolves
            utilities: Tensor = self.body[-1](features.float()).unflatten(-1, (len(self.nvec), -1))  # (B, N, C)
        return utilities.masked_fill(self.missing, -torch.inf)

    def _squashed(self, observation: Tensor) -> Tensor:
        return observation.sign() * observation.abs().log1p() if self.symlog else observation


def _default_scaling(network: DecoupledQ, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Some shipped policies (finger-spin, fish-swim, cheetah-run, walker-walk, quadruped-walk) store no scaling."""
    state.setdefault(f"{prefix}center", torch.zeros_like(network.center))
    state.setdefault(f"{prefix}scale", torch.ones_like(network.scale))


class SoftmaxPolicy:
    """Samples each sub-action's choice from the softmax of its outputs."""

    def __init__(self, network: DecoupledQ) -> None:
        self.network = network
        self._nvec = np.array(network.nvec)

    @property
    def draws(self) -> int:
        return len(self._nvec)

    def act(self, observation: NDArray[np.float32], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        with torch.inference_mode():
            there = torch.from_numpy(observation).to(next(self.network.parameters()).device)
            cumulative = self.network(there).softmax(-1).cumsum(-1).cpu().numpy()  # (B, N, C)
        drawn: NDArray[np.int64] = (cumulative <= uniforms[..., None]).sum(-1)
        return np.minimum(drawn, self._nvec - 1)  # rounding may leave the sum of all probabilities below 1


class EpsilonGreedy:
    """Takes the greedy choice of each sub-action, or with probability ``epsilon`` a uniformly drawn one."""

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
    """Takes every joint action with the same probability."""

    def __init__(self, nvec: Sequence[int]) -> None:
        self._nvec = np.array(nvec)

    @property
    def draws(self) -> int:
        return len(self._nvec)

    def act(self, observation: NDArray[np.float32], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        return (uniforms * self._nvec).astype(np.int64)
