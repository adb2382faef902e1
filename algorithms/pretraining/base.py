"""A pretraining of any kind: a network trained by steps on a dataset, validated on episodes that are held out.

Plain PyTorch without Ray. A run is a function of (settings, data): batches are a pure function of (seed, step), all
other randomness comes from torch's generator, whose state is part of the training state.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from spin_rl.algorithms.data.batches import DeviceTransitions, draw_indices
from spin_rl.algorithms.pretraining.episodes import split_by_episode, spread
from spin_rl.errors import UserError
from spin_rl.optimizer_state import load_optimizer_tensors, optimizer_tensors
from spin_rl.platform.datasets import OfflineDataset


class PretrainingConfig(ABC):
    """Everything that a pretraining depends on besides its data; each kind is a frozen dataclass with these fields.

    Attributes:
        learning_rate: of Adam.
        batch_size: transitions of a step.
        gradient_clip: largest norm of all gradients together.
        precision: of matrix products: ``float32``, or ``bfloat16`` under autocast.
        validation_fraction: share of the episodes that is held out.
        seed: of the weights, the batches, what else is random, and the episodes that are held out.
    """

    learning_rate: float
    batch_size: int
    gradient_clip: float
    precision: str
    validation_fraction: float
    seed: int

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Plain values that name this configuration in the store."""

    @abstractmethod
    def begin(self, dataset: OfflineDataset, device: torch.device | None = None) -> "Pretraining":
        """A pretraining before its first step."""

    @property
    @abstractmethod
    def label(self) -> str:
        """What is made, in a word or two for progress bars."""


def check_pretraining_precision(precision: str) -> None:
    """UserError where there is no such precision of pretraining."""
    if precision not in ("float32", "bfloat16"):
        raise UserError(f"A precision is float32 or bfloat16, not '{precision}'.")


@dataclass(frozen=True)
class Validation:
    """Held-out cross-entropy (nats per sub-action) and accuracy, and the pretraining's own loss.

    Attributes:
        loss: at the masking rate, for a model that sees some of the sub-actions.
        accuracy: at the masking rate.
        full_loss: with the state alone to go by.
        full_accuracy: with the state alone to go by.
        objective_loss: what the training minimises.
    """

    loss: float
    accuracy: float
    full_loss: float
    full_accuracy: float
    objective_loss: float


VALIDATION_LIMIT = 8192
"""Held-out transitions that are used: enough for three digits, and cheap enough to validate often."""


class Pretraining(ABC):
    """A pretraining that can be stopped, saved and resumed to the same bits.

    A subclass makes its model, with torch's generator at the configuration's seed, and says what its loss is, how it is
    measured, and how the model is written; ``objective`` holds what its loss has to learn besides.
    """

    def __init__(self, dataset: OfflineDataset, config: PretrainingConfig, device: torch.device | None = None) -> None:
        self._settings = config
        self.device = device or torch.device("cpu")
        torch.manual_seed(config.seed)
        self.model = self.make_model(dataset).to(self.device)
        self.objective = self.make_objective().to(self.device)
        self._parameters = [*self.model.parameters(), *self.objective.parameters()]
        self._optimizer = torch.optim.Adam(self._parameters, config.learning_rate, fused=True)
        training_rows, held_out_rows = split_by_episode(dataset, config.validation_fraction, config.seed)
        self._data = DeviceTransitions(dataset, self.device, training_rows)
        self._held_out = DeviceTransitions(dataset, self.device, spread(held_out_rows, VALIDATION_LIMIT))
        self.step = 0
        self.seconds = 0.0

    @abstractmethod
    def make_model(self, dataset: OfflineDataset) -> nn.Module:
        """The untrained model."""

    def make_objective(self) -> nn.Module:
        """The networks that are trained beside the model and not needed afterwards; here, none."""
        return nn.Module()

    @abstractmethod
    def loss(self, observation: Tensor, action: Tensor) -> Tensor:
        """The loss of a batch of observations (B, S) and joint actions (B, N)."""

    @abstractmethod
    def measure(self, observation: Tensor, action: Tensor) -> Validation:
        """Losses and accuracies of the model, in evaluation mode, on held-out transitions."""

    @abstractmethod
    def save_model(self, folder: Path) -> None:
        """Write what reads the model again; its weights under ``model.safetensors``."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps that make an epoch: ceil(n / batch size)."""
        return -(-self._data.size // self._settings.batch_size)

    def train(self, until: int, on_step: Callable[[int, float], None] | None = None) -> None:
        """Make steps up to number ``until``; ``on_step(step, loss)`` is called about every 50 steps."""
        self.model.train()
        config = self._settings
        # an open batch of indices, so that the counter-based draw is not repeated for every single step
        while self.step < until:
            started = time.perf_counter()
            count = min(50, until - self.step)
            indices = draw_indices(config.seed, 1, self.step, count, config.batch_size, self._data.size, self.device)
            for row in indices:
                loss = self._update(row)
            self.step += count
            value = float(loss)
            self.seconds += time.perf_counter() - started
            if not np.isfinite(value):
                raise UserError(
                    f"The pretraining loss became {value} at step {self.step}; use a smaller learning rate."
                )
            if on_step:
                on_step(self.step, value)

    def _update(self, indices: Tensor) -> Tensor:
        observation, action = self._data.observation_action(indices)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._settings.precision == "bfloat16"):
            loss = self.loss(observation, action)
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, self._settings.gradient_clip)
        self._optimizer.step()
        return loss.detach()

    def validate(self) -> Validation:
        """Losses and accuracies on held-out episodes; does not change the training's random state."""
        state = torch.get_rng_state()
        torch.manual_seed(0)
        self.model.eval()
        observation, action = self._held_out.observation_action(torch.arange(self._held_out.size, device=self.device))
        with torch.inference_mode():
            found = self.measure(observation, action)
        self.model.train()
        torch.set_rng_state(state)
        return found

    def mean_loss(self, observation: Tensor, action: Tensor) -> float:
        """The loss as a mean over batches of the training's size, which a contrastive loss depends on."""
        size = self._settings.batch_size
        losses = [
            float(self.loss(some_observations, some_actions)) * len(some_actions)
            for some_observations, some_actions in zip(observation.split(size), action.split(size), strict=True)
        ]
        return sum(losses) / len(action)

    def save(self, folder: Path) -> None:
        """Write the weights and the state to resume from into an existing ``folder``."""
        self.save_model(folder)
        tensors = {"random": torch.get_rng_state()}
        tensors |= optimizer_tensors(self._optimizer, "optimizer.")
        tensors |= {f"objective.{name}": value for name, value in self.objective.state_dict().items()}
        save_file(tensors, folder / "training.safetensors", {"step": str(self.step), "seconds": repr(self.seconds)})

    def load(self, folder: Path) -> None:
        """Resume from what ``save`` wrote."""
        self.model.load_state_dict(load_file(folder / "model.safetensors"))
        tensors = load_file(folder / "training.safetensors")
        with safe_open(folder / "training.safetensors", "pt") as file:
            metadata: Mapping[str, str] = file.metadata()
        torch.set_rng_state(tensors.pop("random"))
        self.objective.load_state_dict(
            {name.removeprefix("objective."): v for name, v in tensors.items() if name.startswith("objective.")}
        )
        load_optimizer_tensors(self._optimizer, tensors, "optimizer.")
        self.step, self.seconds = int(metadata["step"]), float(metadata["seconds"])
