"""Stage 1: pretraining of the action structure model by masked action modelling (SPEC.md section 2).

Plain PyTorch without Ray. A run is a function of (settings, data): batches are a pure function of (seed, step), masks
and dropout come from torch's generator, whose state is part of the training state.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from spin_rl.algorithms.asm import ActionStructureModel, ASMSizes
from spin_rl.algorithms.batches import DeviceTransitions, draw_indices
from spin_rl.algorithms.masking import Masking, mask_actions, masked_cross_entropy
from spin_rl.envs import UserError
from spin_rl.platform.datasets import OfflineDataset


@dataclass(frozen=True)
class ASMConfig:
    """What a pretraining depends on besides its data; the defaults are the paper's."""

    sizes: ASMSizes = field(default_factory=ASMSizes)
    masking: Masking = field(default_factory=Masking)
    learning_rate: float = 4e-4
    batch_size: int = 1024
    gradient_clip: float = 1.0
    precision: str = "float32"  # or bfloat16: matrix products under autocast
    validation_fraction: float = 0.05  # of the episodes
    seed: int = 0

    def __post_init__(self) -> None:
        if self.precision not in ("float32", "bfloat16"):
            raise UserError(f"A precision is float32 or bfloat16, not '{self.precision}'.")

    def identity(self) -> dict[str, Any]:
        """Plain values that name this configuration in the store."""
        return asdict(self)


@dataclass(frozen=True)
class Validation:
    """Held-out cross-entropy and accuracy, at the masking rate 0.15 and with everything masked."""

    loss: float
    accuracy: float
    full_loss: float
    full_accuracy: float


_VALIDATION_LIMIT = 8192
"""Held-out transitions looked at: enough for three digits, cheap enough to look often."""


class Pretraining:
    """A pretraining that can be stopped, saved and continued to the same bits."""

    def __init__(self, dataset: OfflineDataset, config: ASMConfig, device: torch.device | None = None) -> None:
        self.config = config
        self.device = device or torch.device("cpu")
        meta = dataset.meta
        torch.manual_seed(config.seed)
        self.model = ActionStructureModel(meta.observation_size, meta.nvec, config.sizes).to(self.device)
        self._parameters = list(self.model.parameters())
        self._optimizer = torch.optim.Adam(self._parameters, config.learning_rate, fused=True)
        training_rows, held_out_rows = split_by_episode(dataset, config.validation_fraction, config.seed)
        self._data = DeviceTransitions(dataset, self.device, training_rows)
        self._held_out = DeviceTransitions(dataset, self.device, held_out_rows[:_VALIDATION_LIMIT])
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
        masked = mask_actions(action, self.model.mask_tokens, self.config.masking)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            logits = self.model(observation, masked.tokens)
        loss, _ = masked_cross_entropy(logits, action, masked.selected)
        self._optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, self.config.gradient_clip)
        self._optimizer.step()
        return loss.detach()

    def validate(self) -> Validation:
        """Loss and accuracy on held-out episodes; uses masks of its own and leaves the training's generator alone."""
        state = torch.get_rng_state()
        torch.manual_seed(0)
        self.model.eval()
        observation, action = self._held_out.observation_action(torch.arange(self._held_out.size, device=self.device))
        masked = mask_actions(action, self.model.mask_tokens, Masking(mask=1.0, randomise=0.0))
        everything = torch.ones_like(masked.selected)
        with torch.inference_mode():
            _, partial = masked_cross_entropy(self.model(observation, masked.tokens), action, masked.selected)
            tokens = self.model.mask_tokens.expand_as(action)
            _, full = masked_cross_entropy(self.model(observation, tokens), action, everything)
        self.model.train()
        torch.set_rng_state(state)
        return Validation(*(float(info[name]) for info in (partial, full) for name in ("loss", "accuracy")))

    def save(self, folder: Path) -> None:
        """Write weights and the training state to go on from into an existing ``folder``."""
        save_asm(self.model, folder)
        tensors = {"random": torch.get_rng_state()}
        for index, slots in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{slot}": value for slot, value in slots.items()}
        save_file(tensors, folder / "training.safetensors", {"step": str(self.step), "seconds": repr(self.seconds)})

    def load(self, folder: Path) -> None:
        """Go on from what ``save`` wrote."""
        self.model.load_state_dict(load_file(folder / "model.safetensors"))
        tensors = load_file(folder / "training.safetensors")
        with safe_open(folder / "training.safetensors", "pt") as file:
            metadata: Mapping[str, str] = file.metadata()
        torch.set_rng_state(tensors.pop("random"))
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            _, index, slot = key.split(".")
            slots.setdefault(int(index), {})[slot] = value
        self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": slots})
        self.step, self.seconds = int(metadata["step"]), float(metadata["seconds"])


def split_by_episode(dataset: OfflineDataset, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the training transitions and of the held-out ones: ``fraction`` of the episodes, at least one.

    A dataset of one episode is held out from itself: nothing better is to be had.
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


def save_asm(model: ActionStructureModel, folder: Path) -> None:
    """Write an action structure model: weights as safetensors, shape as JSON."""
    shape = {"observation_size": model.observation_size, "nvec": model.nvec, "sizes": model.sizes.to_dict()}
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "model.json").write_text(json.dumps(shape, indent=2))


def load_asm(folder: Path) -> ActionStructureModel:
    """Read what ``save_asm`` wrote; UserError where the folder holds no model."""
    try:
        shape = json.loads((folder / "model.json").read_text())
        model = ActionStructureModel(shape["observation_size"], tuple(shape["nvec"]), ASMSizes(**shape["sizes"]))
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{folder} holds no action structure model that can be read ({error}); "
            "make one with 'spin-rl pretrain TASK LEVEL'."
        ) from error
    return model
