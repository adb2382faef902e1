"""Pretraining of the action structure model (SPEC.md section 2)."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
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
from spin_rl.algorithms.pretraining.base import (
    Pretraining,
    PretrainingConfig,
    Validation,
    check_pretraining_precision,
)
from spin_rl.errors import UserError, unknown_name
from spin_rl.platform.datasets import OfflineDataset


@dataclass(frozen=True)
class ASMConfig(PretrainingConfig):
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
        check_pretraining_precision(self.precision)

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

    @property
    def label(self) -> str:
        return "ASM"

    def begin(self, dataset: OfflineDataset, device: torch.device | None = None) -> "ASMPretraining":
        return ASMPretraining(dataset, self, device)

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


class ASMPretraining(Pretraining):
    """Masks, and noise of the other objectives and of dropout, come from torch's generator."""

    model: ActionStructureModel

    def __init__(self, dataset: OfflineDataset, config: ASMConfig, device: torch.device | None = None) -> None:
        self.config = config
        meta = dataset.meta
        if ASM_OBJECTIVES[config.objective].needs_several and len(meta.nvec) < 2:
            raise UserError(
                f"{config.objective} needs several sub-actions, {meta.task} has one: pretrain with mam or vam."
            )
        super().__init__(dataset, config, device)

    def make_model(self, dataset: OfflineDataset) -> ActionStructureModel:
        return ActionStructureModel(dataset.meta.observation_size, dataset.meta.nvec, self.config.sizes)

    def make_objective(self) -> ActionModelling:
        return self.config.modelling()

    def loss(self, observation: Tensor, action: Tensor) -> Tensor:
        loss: Tensor = self.objective(self.model, observation, action)[0]
        return loss

    def measure(self, observation: Tensor, action: Tensor) -> Validation:
        """At the masking rate with fixed masks, and with everything masked."""
        rate = Masking(self.config.masking.rate, mask=1.0, randomise=0.0)
        masked = mask_actions(action, self.model.mask_tokens, rate)
        everything = torch.ones_like(masked.selected)
        _, partial = masked_cross_entropy(self.model(observation, masked.tokens), action, masked.selected)
        tokens = self.model.mask_tokens.expand_as(action)
        _, full = masked_cross_entropy(self.model(observation, tokens), action, everything)
        return Validation(
            loss=float(partial["loss"]),
            accuracy=float(partial["accuracy"]),
            full_loss=float(full["loss"]),
            full_accuracy=float(full["accuracy"]),
            objective_loss=self.mean_loss(observation, action),
        )

    def save_model(self, folder: Path) -> None:
        save_asm(self.model, folder)
