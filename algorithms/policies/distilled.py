"""SPIN-Distill: heads on the tokens of a student that imitates the trunk (SPEC.md section 3, policy 5)."""

import time
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor

from spin_rl.algorithms.asm.model import ActionStructureModel, ASMSizes
from spin_rl.algorithms.data.batches import DeviceTransitions
from spin_rl.algorithms.data.features import FeatureStorage
from spin_rl.algorithms.networks.freezing import freeze
from spin_rl.algorithms.policies.base import Preparation
from spin_rl.algorithms.policies.constant import ConstantFeaturesPolicy
from spin_rl.algorithms.policies.distillation import Student, distill
from spin_rl.algorithms.presets import Preset


class DistilledPolicy(ConstantFeaturesPolicy):
    """Heads on the tokens of a student without attention, which is trained before the policy to give the trunk's."""

    trained: Tensor

    def __init__(
        self,
        observation_size: int,
        nvec: Sequence[int],
        sizes: ASMSizes,
        student_width: int = 256,
        distill_steps: int = 20_000,
    ) -> None:
        super().__init__(nvec, sizes)
        self.student = Student(observation_size, sizes.width, student_width)
        freeze(self.student)
        self.distill_steps = distill_steps
        self.register_buffer("trained", torch.zeros((), dtype=torch.int64))  # distillation steps made

    @classmethod
    def from_preset(cls, observation_size: int, nvec: Sequence[int], preset: Preset) -> Self:
        """``spin-distill``."""
        return cls(observation_size, nvec, preset.asm, preset.student_width, preset.distill_steps)

    def prepare(
        self, data: DeviceTransitions, asm: ActionStructureModel | None, storage: FeatureStorage, seed: int
    ) -> Preparation:
        """Distill the trunk of ``asm`` into the student, unless a restored state brought a trained one."""
        if bool(self.trained):
            return Preparation()
        assert asm is not None
        started = time.perf_counter()
        self.distill(asm.to(data.device), data, steps=self.distill_steps, seed=seed)
        return Preparation(time.perf_counter() - started)

    def distill(
        self, asm: ActionStructureModel, data: DeviceTransitions, *, steps: int, seed: int, batch_size: int = 256
    ) -> list[float]:
        """Train the student on the tokens of ``asm``; see ``distillation.distill``, whose losses it returns."""
        losses = distill(self.student, self.queries, asm, data, steps=steps, seed=seed, batch_size=batch_size)
        self.trained.fill_(steps)
        return losses

    @torch.no_grad()
    def features(self, observation: Tensor) -> Tensor:
        tokens: Tensor = self.student(observation, self.queries)
        return tokens
