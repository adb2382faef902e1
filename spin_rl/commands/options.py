"""Options and arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

TaskName = Annotated[str, typer.Argument(metavar="TASK", help="Task, such as cheetah-run.")]
LevelName = Annotated[str, typer.Argument(metavar="LEVEL", help="Level of the dataset, such as medium-expert.")]
Bins = Annotated[int, typer.Option(help="Choices per action dimension.")]
Version = Annotated[int | None, typer.Option(help="Version of the dataset; the newest by default.", min=1)]
Preset = Annotated[str, typer.Option(help="Sizes of the networks: paper, small or tiny.")]
Root = Annotated[str, typer.Option("--root", help="Where datasets lie.", envvar="SPIN_RL_DATA")]
RootPath = Annotated[
    str | None,
    typer.Option("--root", help="Where datasets lie: a folder or any fsspec location.", envvar="SPIN_RL_DATA"),
]
Policies = Annotated[Path | None, typer.Option(help="Folder of behaviour policies; the shipped ones by default.")]
Storage = Annotated[Path, typer.Option(help="Where results lie.", envvar="SPIN_RL_STORAGE")]
Masking = Annotated[
    str | None,
    typer.Option(
        help="fixed: one rate for all samples, as published; variable: a rate of its own for every sample. "
        "Without it: fixed with the preset paper, otherwise variable."
    ),
]
MaskingRate = Annotated[float, typer.Option(help="Share of the sub-actions that fixed masking hides.")]
MaskingSplit = Annotated[
    tuple[float, float],
    typer.Option(
        metavar="MASK RANDOM",
        help="With fixed masking: of the hidden, the share shown as the mask and that shown as a random choice.",
    ),
]
FullyMasked = Annotated[float, typer.Option(help="With variable masking: share of the samples that is hidden wholly.")]
ASMObjective = Annotated[
    str,
    typer.Option(help="Pretraining: mam (masked, the published one), vam (variational) or cam (contrastive)."),
]
Precision = Annotated[
    str | None,
    typer.Option(
        help="Precision of pretraining: float32 or bfloat16. Without it: float32 with the preset paper, otherwise "
        "bfloat16."
    ),
]
