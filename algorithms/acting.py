"""Policies as the batched evaluator wants them: NumPy in, NumPy out, no random numbers of their own."""

import numpy as np
import torch
from numpy.typing import NDArray

from spin_rl.algorithms.policies import Policy


class ActingPolicy:
    """A policy that samples by the uniforms it is given, or acts greedily; see ``spin_rl.envs.BatchPolicy``."""

    def __init__(self, policy: Policy, device: torch.device, *, sample: bool) -> None:
        self._policy = policy
        self._device = device
        self._sample = sample

    @property
    def draws(self) -> int:
        return len(self._policy.nvec) if self._sample else 0

    def act(self, observation: NDArray[np.float32], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        training = self._policy.training
        self._policy.eval()
        with torch.inference_mode():
            action = self._policy.act(
                torch.from_numpy(observation).to(self._device),
                torch.from_numpy(np.ascontiguousarray(uniforms)).to(self._device) if self._sample else None,
            )
        self._policy.train(training)
        actions: NDArray[np.int64] = action.cpu().numpy()
        return actions
