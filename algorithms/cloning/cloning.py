"""Behaviour cloning of a policy's own network, as a pretraining (METHODS: the cloning control of arXiv 2211.00863).

The loss is -log pi_i(a_i | s, ...), averaged over the batch and the sub-actions: the objectives' clone terms (BCQ's,
arXiv 1910.01708) by the number of sub-actions, and an action structure model's cross-entropy with everything masked.
Optimiser, batch, gradient clip and held-out episodes are an action structure model's too, so that two pretrainings of
equal length differ in what is trained alone.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spin_rl.algorithms.cloning.files import save_clone
from spin_rl.algorithms.cloning.networks import get_network, only_sizes, sizes_of
from spin_rl.algorithms.policies import Policy
from spin_rl.algorithms.presets import Preset
from spin_rl.algorithms.pretraining.base import (
    Pretraining,
    PretrainingConfig,
    Validation,
    check_pretraining_precision,
)
from spin_rl.platform.datasets import OfflineDataset


@dataclass(frozen=True)
class CloneConfig(PretrainingConfig):
    """Everything that a clone depends on besides its data.

    Attributes:
        network: what is cloned (``networks.NETWORKS``).
        preset: its sizes; of other fields nothing is kept, so that equal networks have equal configurations. A dropout
            that the preset leaves to the objective is 0.1: one clone serves all objectives.
        learning_rate: of Adam.
        batch_size: transitions of a step.
        gradient_clip: largest norm of all gradients together.
        precision: of matrix products: ``float32``, or ``bfloat16`` under autocast.
        validation_fraction: share of the episodes that is held out.
        seed: of the weights, the batches, dropout, and the episodes that are held out.
    """

    network: str
    preset: Preset = field(default_factory=Preset)
    learning_rate: float = 4e-4
    batch_size: int = 1024
    gradient_clip: float = 1.0
    precision: str = "float32"
    validation_fraction: float = 0.05
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "preset", only_sizes(self.network, self.preset))
        check_pretraining_precision(self.precision)

    def identity(self) -> dict[str, Any]:
        values = asdict(self)
        del values["preset"]
        return {"kind": "bc", **values, "sizes": sizes_of(self.network, self.preset)}

    @property
    def label(self) -> str:
        return f"clone of {self.network}"

    def begin(self, dataset: OfflineDataset, device: torch.device | None = None) -> "Cloning":
        return Cloning(dataset, self, device)


class Cloning(Pretraining):
    """Dropout, the one random part besides weights and batches, comes from torch's generator."""

    model: Policy

    def __init__(self, dataset: OfflineDataset, config: CloneConfig, device: torch.device | None = None) -> None:
        self.config = config
        self._observation_size = dataset.meta.observation_size
        super().__init__(dataset, config, device)

    def make_model(self, dataset: OfflineDataset) -> Policy:
        meta = dataset.meta
        return get_network(self.config.network).build(meta.observation_size, meta.nvec, self.config.preset)

    def loss(self, observation: Tensor, action: Tensor) -> Tensor:
        return -self.model.log_probs(self.model.features(observation), action).mean()

    def measure(self, observation: Tensor, action: Tensor) -> Validation:
        """Cross-entropy, and the share of sub-actions that the greedy joint action has right.

        A policy has the state alone to go by, so both pairs are the same. An autoregressive one is given the true
        earlier sub-actions for the cross-entropy, and its own for the accuracy.
        """
        loss, hits = 0.0, 0.0
        for states, chosen in zip(observation.split(_BATCH), action.split(_BATCH), strict=True):
            features = self.model.features(states)
            loss -= float(self.model.log_probs(features, chosen).double().sum())
            hits += float((self.model.act(features) == chosen).sum())
        loss, accuracy = loss / action.numel(), hits / action.numel()
        return Validation(loss, accuracy, loss, accuracy, loss)

    def save_model(self, folder: Path) -> None:
        save_clone(self.model, self.config.network, self._observation_size, self.config.preset, folder)


_BATCH = 2048
"""Transitions that are measured at a time."""
