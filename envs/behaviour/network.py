"""The decoupled Q-network of DecQN (arXiv 2210.12566) and the policies that act by it."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class DecoupledQ(nn.Module):
    """Utilities of every choice of every sub-action from a state; Q(s, a) is their mean over sub-actions.

    Observations (B, S) to utilities (B, N, C), -inf at choices that do not exist.
    """

    missing: Tensor

    def __init__(self, observation_size: int, nvec: Sequence[int], width: int = 512) -> None:
        super().__init__()
        self.nvec = tuple(nvec)
        self.width = width
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

    def forward(self, observation: Tensor) -> Tensor:
        utilities: Tensor = self.body(observation).unflatten(-1, (len(self.nvec), -1))  # (B, N C) -> (B, N, C)
        return utilities.float().masked_fill(self.missing, -torch.inf)


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
            there = torch.from_numpy(observation).to(self.network.missing.device)
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
