"""Policies in the form that the batched evaluator takes: NumPy in, NumPy out, no random numbers of their own."""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Actor(Protocol):
    """What chooses actions: an objective, or a policy by itself."""

    training: bool

    def train(self, mode: bool = True) -> object: ...

    def draws(self, *, sample: bool) -> int: ...

    def decide(self, observation: Tensor, uniforms: Tensor | None, *, sample: bool) -> Tensor: ...


class ActingPolicy:
    """Actions sampled at the uniforms it is given, or the best ones; see ``spin_rl.envs.BatchPolicy``."""

    def __init__(self, actor: Actor, device: torch.device, *, sample: bool) -> None:
        self._actor = actor
        self._device = device
        self._sample = sample

    @property
    def draws(self) -> int:
        return self._actor.draws(sample=self._sample)

    def act(self, observation: NDArray[np.float32], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        training = self._actor.training
        self._actor.train(False)
        with torch.inference_mode():
            action = self._actor.decide(
                torch.from_numpy(observation).to(self._device),
                torch.from_numpy(np.ascontiguousarray(uniforms)).to(self._device) if self.draws else None,
                sample=self._sample,
            )
        self._actor.train(training)
        actions: NDArray[np.int64] = action.cpu().numpy()
        return actions
