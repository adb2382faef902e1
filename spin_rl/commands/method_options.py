"""Options on methods and models, whose help is made from the registries, and what they stand for."""

from typing import Annotated

import typer

from spin_rl.algorithms.asm.masking import Masking
from spin_rl.algorithms.asm.pretraining import ASM_OBJECTIVES
from spin_rl.algorithms.methods import METHODS, POLICY_OBJECTIVES
from spin_rl.algorithms.presets import PRESETS
from spin_rl.commands.options import one_of
from spin_rl.sweeps.planning import models

Algorithm = Annotated[str, typer.Argument(metavar="ALGORITHM", help=f"Method: {one_of(METHODS)}.")]
ObjectiveName = Annotated[
    str | None,
    typer.Option(
        help=f"Offline objective: {one_of(POLICY_OBJECTIVES)} for methods with a policy; the others have one of their "
        "own. The method's first by default: iql for policies."
    ),
]
_PRESETS = f"Sizes of the networks: {one_of(PRESETS)}."
Preset = Annotated[str, typer.Option(help=_PRESETS)]
OptionalPreset = Annotated[str | None, typer.Option("--preset", help=_PRESETS)]

MaskingKind = Annotated[
    str | None,
    typer.Option(
        "--masking",
        help="fixed: one rate for all samples, as published; variable: each sample draws its own. "
        "The preset's by default: fixed with paper, otherwise variable.",
    ),
]
MaskingRate = Annotated[float, typer.Option(help="With fixed masking: probability that a sub-action is hidden.")]
MaskingSplit = Annotated[
    tuple[float, float],
    typer.Option(
        metavar="MASK RANDOM",
        help="With fixed masking: shares of the hidden sub-actions shown as the mask and as a random choice.",
    ),
]
FullyMasked = Annotated[float, typer.Option(help="With variable masking: share of samples that are hidden entirely.")]
ASMObjective = Annotated[
    str,
    typer.Option(
        help=f"Pretraining objective: {one_of(ASM_OBJECTIVES)} (masked as published, variational, contrastive)."
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        help="Precision of pretraining: float32 or bfloat16. The preset's by default: float32 with paper, otherwise "
        "bfloat16."
    ),
]


def masking_of(preset: str, kind: str | None, rate: float, split: tuple[float, float], fully_masked: float) -> Masking:
    """The masking that the options describe; its kind is the preset's by default.

    Raises:
        UserError: there is no such kind or preset, or a share is out of range.
    """
    mask, randomise = split
    return models.masking_of(preset, kind, rate=rate, mask=mask, randomise=randomise, fully_masked=fully_masked)
