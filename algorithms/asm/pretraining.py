"""Stage 1: pretraining of the action structure model (SPEC.md section 2).

Plain PyTorch without Ray. A run is a function of (settings, data): batches are a pure function of (seed, step), masks
and dropout come from torch's generator, whose state is part of the training state.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from spin_rl.algorithms.asm.files import save_asm
from spin_rl.algorithms.asm.masking import Masking, mask_actions, masked_cross_entropy
from spin_rl.algorithms.asm.model import ActionStructureModel, ASMSizes
from spin_rl.algorithms.asm.modelling import (
    ActionModelling,
    ContrastiveModelling,
    MaskedModelling,
    VariationalModelling,
)
from spin_rl.algorithms.data.batches import DeviceTransitions, draw_indices
from spin_rl.errors import UserError, unknown_name
from spin_rl.optimizer_state import load_optimizer_tensors, optimizer_tensors
from spin_rl.platform.datasets import OfflineDataset


@dataclass(frozen=True)
class ASMConfig:
    """Everything that a pretraining depends on besides its data; the defaults are the paper's."""

    sizes: ASMSizes = field(default_factory=ASMSizes)
    objective: str = "mam"  # vam, cam
    masking: Masking = field(default_factory=Masking)
    kl_weight: float = 1.0  # vam's
    latent_width: int = 32  # vam's
    temperature: float = 0.1  # cam's
    learning_rate: float = 4e-4
    batch_size: int = 1024
    gradient_clip: float = 1.0
    precision: str = "float32"  # or bfloat16: matrix products under autocast
    validation_fraction: float = 0.05  # of the episodes
    seed: int = 0

    def __post_init__(self) -> None:
        if self.objective not in ASM_OBJECTIVES:
            raise unknown_name("pretraining objective", self.objective, ASM_OBJECTIVES)
        if self.kl_weight < 0 or self.latent_width < 1 or self.temperature <= 0:
            raise UserError(
                f"kl_weight ({self.kl_weight}) is at least 0, latent_width ({self.latent_width}) at least 1 and "
                f"temperature ({self.temperature}) above 0."
            )
        if self.precision not in ("float32", "bfloat16"):
            raise UserError(f"A precision is float32 or bfloat16, not '{self.precision}'.")

    def identity(self) -> dict[str, Any]:
        """Plain values that name this configuration in the store.

        Settings of other objectives are left out, and so is the name of the paper's: a model keeps the address that it
        had before there were others.
        """
        values = asdict(self)
        for name, objective in ASM_OBJECTIVES.items():
            if name != self.objective:
                values = {key: value for key, value in values.items() if key not in objective.settings}
        if self.objective == "mam":
            del values["objective"]
        return values

    def modelling(self) -> ActionModelling:
        """The objective, with fresh parameters where it has any."""
        return ASM_OBJECTIVES[self.objective].build(self)


class ASMObjective(NamedTuple):
    """A pretraining objective, and the settings of ``ASMConfig`` that only it has."""

    build: Callable[[ASMConfig], ActionModelling]
    settings: tuple[str, ...] = ()
    needs_several: bool = False  # sub-actions, as it sets each against the others


ASM_OBJECTIVES: Mapping[str, ASMObjective] = {
    "mam": ASMObjective(lambda config: MaskedModelling(config.masking)),
    "vam": ASMObjective(
        lambda config: VariationalModelling(config.sizes.width, config.latent_width, config.kl_weight),
        ("kl_weight", "latent_width"),
    ),
    "cam": ASMObjective(
        lambda config: ContrastiveModelling(config.masking, config.temperature), ("temperature",), needs_several=True
    ),
}
"""Pretraining objectives by name."""


@dataclass(frozen=True)
class Validation:
    """Held-out cross-entropy and accuracy, at the masking rate and with all masked, and the objective's own loss."""

    loss: float
    accuracy: float
    full_loss: float
    full_accuracy: float
    objective_loss: float


_VALIDATION_LIMIT = 8192
"""Held-out transitions that are used: enough for three digits, and cheap enough to validate often."""


class Pretraining:
    """A pretraining that can be stopped, saved and resumed to the same bits."""

    def __init__(self, dataset: OfflineDataset, config: ASMConfig, device: torch.device | None = None) -> None:
        self.config = config
        self.device = device or torch.device("cpu")
        meta = dataset.meta
        if ASM_OBJECTIVES[config.objective].needs_several and len(meta.nvec) < 2:
            raise UserError(
                f"{config.objective} needs several sub-actions, {meta.task} has one: pretrain with mam or vam."
            )
        torch.manual_seed(config.seed)
        self.model = ActionStructureModel(meta.observation_size, meta.nvec, config.sizes).to(self.device)
        self._modelling = config.modelling().to(self.device)
        self._parameters = [*self.model.parameters(), *self._modelling.parameters()]
        self._optimizer = torch.optim.Adam(self._parameters, config.learning_rate, fused=True)
        training_rows, held_out_rows = split_by_episode(dataset, config.validation_fraction, config.seed)
        self._data = DeviceTransitions(dataset, self.device, training_rows)
        self._held_out = DeviceTransitions(dataset, self.device, spread(held_out_rows, _VALIDATION_LIMIT))
        self.step = 0
        self.seconds = 0.0

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps that make an epoch: ceil(n / batch size)."""
        return -(-self._data.size // self.config.batch_size)

    def train(self, until: int, on_step: Callable[[int, float], None] | None = None) -> None:
        """Make steps up to number ``until``; ``on_step(step, loss)`` is called about every 50 steps."""
        self.model.train()
        config = self.config
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
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            loss, _ = self._modelling(self.model, observation, action)
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, self.config.gradient_clip)
        self._optimizer.step()
        return loss.detach()

    def validate(self) -> Validation:
        """Loss and accuracy on held-out episodes, with fixed masks; does not change the training's random state."""
        state = torch.get_rng_state()
        torch.manual_seed(0)
        self.model.eval()
        observation, action = self._held_out.observation_action(torch.arange(self._held_out.size, device=self.device))
        rate = Masking(self.config.masking.rate, mask=1.0, randomise=0.0)
        masked = mask_actions(action, self.model.mask_tokens, rate)
        everything = torch.ones_like(masked.selected)
        with torch.inference_mode():
            _, partial = masked_cross_entropy(self.model(observation, masked.tokens), action, masked.selected)
            tokens = self.model.mask_tokens.expand_as(action)
            _, full = masked_cross_entropy(self.model(observation, tokens), action, everything)
            own = self._objective_loss(observation, action)
        self.model.train()
        torch.set_rng_state(state)
        return Validation(
            loss=float(partial["loss"]),
            accuracy=float(partial["accuracy"]),
            full_loss=float(full["loss"]),
            full_accuracy=float(full["accuracy"]),
            objective_loss=own,
        )

    def _objective_loss(self, observation: Tensor, action: Tensor) -> float:
        """Mean over batches of the training's size, which a contrastive loss depends on."""
        losses = [
            float(self._modelling(self.model, some_observations, some_actions)[0]) * len(some_actions)
            for some_observations, some_actions in zip(
                observation.split(self.config.batch_size), action.split(self.config.batch_size), strict=True
            )
        ]
        return sum(losses) / len(action)

    def save(self, folder: Path) -> None:
        """Write the weights and the state to resume from into an existing ``folder``."""
        save_asm(self.model, folder)
        tensors = {"random": torch.get_rng_state()}
        tensors |= optimizer_tensors(self._optimizer, "optimizer.")
        tensors |= {f"objective.{name}": value for name, value in self._modelling.state_dict().items()}
        save_file(tensors, folder / "training.safetensors", {"step": str(self.step), "seconds": repr(self.seconds)})

    def load(self, folder: Path) -> None:
        """Resume from what ``save`` wrote."""
        self.model.load_state_dict(load_file(folder / "model.safetensors"))
        tensors = load_file(folder / "training.safetensors")
        with safe_open(folder / "training.safetensors", "pt") as file:
            metadata: Mapping[str, str] = file.metadata()
        torch.set_rng_state(tensors.pop("random"))
        self._modelling.load_state_dict(
            {name.removeprefix("objective."): v for name, v in tensors.items() if name.startswith("objective.")}
        )
        load_optimizer_tensors(self._optimizer, tensors, "optimizer.")
        self.step, self.seconds = int(metadata["step"]), float(metadata["seconds"])


def split_by_episode(dataset: OfflineDataset, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the training transitions and of the held-out ones: ``fraction`` of the episodes, at least one.

    The only episode of a dataset is both: there is no other to hold out.
    """
    offsets = dataset.episode_offsets
    episodes = len(offsets) - 1
    order = np.random.default_rng((seed, episodes)).permutation(episodes)
    held_out = np.zeros(episodes, bool)
    held_out[order[: max(1, round(fraction * episodes))]] = True
    of_transition = np.repeat(held_out, np.diff(offsets))
    if of_transition.all():
        return np.asarray(dataset.transitions), np.asarray(dataset.transitions)
    return dataset.transitions[~of_transition], dataset.transitions[of_transition]


def spread(rows: np.ndarray, limit: int) -> np.ndarray:
    """At most ``limit`` of ``rows``, evenly spread, as datasets hold the behaviours' episodes one after the other."""
    if len(rows) <= limit:
        return rows
    return rows[np.linspace(0, len(rows) - 1, limit).round().astype(np.int64)]
