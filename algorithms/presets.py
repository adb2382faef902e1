"""Sizes of every network, and the settings that go with them, by name: paper, small and tiny."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from spin_rl.algorithms.asm.decoding import Decoding
from spin_rl.algorithms.asm.hiding import HIDING
from spin_rl.algorithms.asm.masking import Masking
from spin_rl.algorithms.asm.model import ASMSizes
from spin_rl.errors import unknown_name


@dataclass(frozen=True)
class Preset:
    """Sizes of every network, and the settings that go with them."""

    asm: ASMSizes = field(default_factory=ASMSizes)
    masking: Masking = field(default_factory=Masking)  # of pretraining, by default
    asm_precision: str = "float32"  # of pretraining, by default
    policy_width: int = 256
    policy_dropout: float | None = None  # the objective's own: 0.1 with IQL and AWAC, 0 with BCQ
    lstm_width: int = 256
    lstm_state_width: int = 128
    lstm_token_width: int = 32
    critic_width: int = 256
    bpr_linear_heads: bool = False  # of bpr and bpr-wide: linear, as in cloning; otherwise as SPIN's
    utility_width: int = 512  # of every network of value decomposition (decqn and its relatives)
    trunk_dropout: bool = True  # of SPIN, finetune and spin-decode; the other methods' dropout is under ``asm``
    trunk_learning_rate: float = 3e-5  # of finetune and spin-decode: a tenth of the rest's
    student_width: int = 512
    distill_steps: int = 20_000
    film_width: int = 128  # of saint-film, as its authors use it on control tasks; saint-film-matched has the trunk's
    film_heads: int = 1
    film_layers: int = 3
    film_state_width: int = 128
    film_head_width: int = 256
    film_head_layers: int = 2
    decode_passes: int | None = None  # of spin-decode; as many as sub-actions, at most 8, by default
    decode_temperature: float = 1.0  # of the noise that orders sub-actions when sampling
    decode_schedule: str = "cosine"
    decode_confidence: str = "likeliest"
    decode_frozen: bool = False  # only new heads train, on the pretrained trunk
    decode_hiding: str = "number"  # how training draws masks: number, or rate (the same loss at a larger variance)

    def __post_init__(self) -> None:
        _ = self.decoding  # which checks its settings
        if self.decode_hiding not in HIDING:
            raise unknown_name("decode_hiding", self.decode_hiding, HIDING)

    @property
    def decoding(self) -> Decoding:
        """How spin-decode decodes."""
        return Decoding(self.decode_passes, self.decode_temperature, self.decode_schedule, self.decode_confidence)


PRESETS: Mapping[str, Preset] = {
    # the published setting, dropout in the frozen trunk included
    "paper": Preset(),
    # trains in minutes on a two-core machine; critics and the factored policy keep their sizes
    "small": Preset(
        asm=ASMSizes(width=64, layers=2),
        masking=Masking(variable=True),
        asm_precision="bfloat16",
        lstm_width=64,
        lstm_state_width=64,
        lstm_token_width=16,
        trunk_dropout=False,
        utility_width=256,
        student_width=256,
        distill_steps=3000,
        film_width=64,
        film_layers=2,
        film_state_width=64,
        film_head_width=128,
    ),
    # for tests: trains in seconds
    "tiny": Preset(
        asm=ASMSizes(width=16, heads=2, layers=1, head_width=16),
        masking=Masking(variable=True),
        asm_precision="bfloat16",
        policy_width=16,
        lstm_width=16,
        lstm_state_width=16,
        lstm_token_width=4,
        critic_width=16,
        utility_width=16,
        student_width=16,
        distill_steps=50,
        film_width=8,
        film_layers=1,
        film_state_width=16,
        film_head_width=16,
    ),
}


def get_preset(name: str, **changes: object) -> Preset:
    """The preset called ``name``, with some of its fields changed."""
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return replace(PRESETS[name], **changes)  # type: ignore[arg-type]
