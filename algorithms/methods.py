"""The methods that are compared: each a policy over the same critics, and the sizes that a preset gives them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from spin_rl.algorithms.asm.masking import Masking
from spin_rl.algorithms.asm.model import ASMSizes
from spin_rl.algorithms.policies import (
    AutoregressivePolicy,
    CachedPolicy,
    DistilledPolicy,
    FactoredPolicy,
    Policy,
    SlotPolicy,
)
from spin_rl.errors import UserError, unknown_name


@dataclass(frozen=True)
class Preset:
    """Sizes of every network, and the settings that go with them."""

    asm: ASMSizes = field(default_factory=ASMSizes)
    masking: Masking = field(default_factory=Masking)  # of pretraining, where nothing else is asked for
    asm_precision: str = "float32"  # of pretraining too
    policy_width: int = 256
    policy_dropout: float | None = None  # the objective's own: 0.1 with IQL and AWAC, 0 with BCQ
    lstm_width: int = 256
    lstm_state_width: int = 128
    lstm_token_width: int = 32
    critic_width: int = 256
    trunk_dropout: bool = True  # of SPIN and finetune; the other methods' dropout is under ``asm``
    trunk_learning_rate: float = 3e-5  # of finetune: a tenth of the rest's
    student_width: int = 512
    distill_steps: int = 20_000


PRESETS: Mapping[str, Preset] = {
    # the published setting, dropout in the frozen trunk included
    "paper": Preset(),
    # what a two-core machine trains in minutes; critics and the factored policy stay as they are
    "small": Preset(
        asm=ASMSizes(width=64, layers=2),
        masking=Masking(variable=True),
        asm_precision="bfloat16",
        lstm_width=64,
        lstm_state_width=64,
        lstm_token_width=16,
        trunk_dropout=False,
        student_width=256,
        distill_steps=3000,
    ),
    # for tests: seconds
    "tiny": Preset(
        asm=ASMSizes(width=16, heads=2, layers=1, head_width=16),
        masking=Masking(variable=True),
        asm_precision="bfloat16",
        policy_width=16,
        lstm_width=16,
        lstm_state_width=16,
        lstm_token_width=4,
        critic_width=16,
        student_width=16,
        distill_steps=50,
    ),
}


@dataclass(frozen=True)
class Method:
    """A policy that is trained offline.

    Attributes:
        name: what commands, files and Tune call it.
        label: what reports show.
        class_name: of its RLlib algorithm; its configuration's is ``<class_name>Config``.
        description: one sentence.
        build: makes the policy from the observation size, the choices of each sub-action and the preset.
        objectives: names of those that it can be trained with; the first is its default.
        pretrained: what it starts from: ``asm``, an action structure model, or nothing.
        settings: settings that only this method and others that list them have.
        constant_features: whether its policy reads features that do not change in training, so that a trunk's dropout
            cannot be a part of them.
    """

    name: str
    label: str
    class_name: str
    description: str
    build: Callable[[int, Sequence[int], Preset], Policy]
    objectives: tuple[str, ...] = ("iql", "awac", "bcq")
    pretrained: str | None = None
    settings: frozenset[str] = frozenset()
    constant_features: bool = False

    @property
    def uses_asm(self) -> bool:
        return self.pretrained == "asm"

    def check_objective(self, objective: str) -> None:
        """UserError where it cannot be trained with ``objective``."""
        if objective not in self.objectives:
            raise UserError(
                f"{self.name} is trained with {' or '.join(self.objectives)}, not with {objective}: "
                "change the objective or the algorithm."
            )


def _factored(observation_size: int, nvec: Sequence[int], preset: Preset) -> Policy:
    dropout = 0.1 if preset.policy_dropout is None else preset.policy_dropout
    return FactoredPolicy(observation_size, nvec, preset.policy_width, dropout)


def _autoregressive(observation_size: int, nvec: Sequence[int], preset: Preset) -> Policy:
    return AutoregressivePolicy(
        observation_size, nvec, preset.lstm_width, preset.lstm_state_width, preset.lstm_token_width
    )


def _slots(observation_size: int, nvec: Sequence[int], preset: Preset) -> Policy:
    return SlotPolicy(observation_size, nvec, preset.asm)


def _finetuned(observation_size: int, nvec: Sequence[int], preset: Preset) -> Policy:
    return SlotPolicy(observation_size, nvec, preset.asm, preset.trunk_learning_rate)


def _cached(observation_size: int, nvec: Sequence[int], preset: Preset) -> Policy:
    return CachedPolicy(observation_size, nvec, preset.asm)


def _distilled(observation_size: int, nvec: Sequence[int], preset: Preset) -> Policy:
    return DistilledPolicy(observation_size, nvec, preset.asm, preset.student_width)


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method(
            "spin",
            "SPIN",
            "SPIN",
            "SPIN (arXiv 2601.04441): light heads and queries on a frozen, pretrained action structure model.",
            _slots,
            pretrained="asm",
        ),
        Method(
            "spin-cached",
            "SPIN-Cached",
            "SPINCached",
            "SPIN on features that are computed once for the whole dataset.",
            _cached,
            pretrained="asm",
            settings=frozenset({"feature_dtype", "feature_memory_gib"}),
            constant_features=True,
        ),
        Method(
            "spin-distill",
            "SPIN-Distill",
            "SPINDistill",
            "SPIN with a student network without attention in place of the trunk.",
            _distilled,
            pretrained="asm",
            constant_features=True,
        ),
        Method(
            "finetune",
            "SPIN (finetuned)",
            "Finetune",
            "SPIN whose state encoder and trunk train too, at a learning rate of their own.",
            _finetuned,
            pretrained="asm",
        ),
        Method("saint", "SAINT", "Saint", "SAINT (arXiv 2505.12109): SPIN's network, trained from scratch.", _slots),
        Method("factored", "Factored", "Factored", "The factored baseline: an MLP with independent heads.", _factored),
        Method(
            "autoregressive",
            "Autoregressive",
            "Autoregressive",
            "The autoregressive baseline: an LSTM over sub-actions.",
            _autoregressive,
        ),
    )
}

METHOD_SETTINGS = frozenset(name for method in METHODS.values() for name in method.settings)
"""Settings that only some methods have."""


def get_method(name: str) -> Method:
    """The method called ``name``; UserError with the list of all where there is none."""
    if name not in METHODS:
        raise unknown_name("algorithm", name, METHODS)
    return METHODS[name]


def get_preset(name: str, **changes: object) -> Preset:
    """The preset called ``name``, with some of its fields changed."""
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return replace(PRESETS[name], **changes)  # type: ignore[arg-type]
