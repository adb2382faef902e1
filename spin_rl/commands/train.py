"""``spin-rl train``: a policy, once per seed."""

from pathlib import Path
from typing import Annotated

import typer

from spin_rl import api
from spin_rl.algorithms.settings import parse_settings
from spin_rl.commands.method_options import (
    Algorithm,
    ASMObjective,
    FullyMasked,
    MaskingKind,
    MaskingRate,
    MaskingSplit,
    ObjectiveName,
    Precision,
    Preset,
    masking_of,
)
from spin_rl.commands.options import (
    Bins,
    DataRoot,
    Episodes,
    LevelName,
    Seeds,
    Storage,
    TaskName,
    TrackingURI,
    Version,
)
from spin_rl.commands.run_display import show_run


def train(
    algorithm: Algorithm,
    task: TaskName,
    level: LevelName,
    objective: ObjectiveName = None,
    bins: Bins = 3,
    preset: Preset = "small",
    seed: Seeds = None,
    updates: Annotated[int, typer.Option(help="Policy updates of each trial.", min=1)] = 10_000,
    evaluate_every: Annotated[
        int, typer.Option(help="Updates between evaluations; the last one comes at the end.", min=1)
    ] = 1000,
    episodes: Episodes = 10,
    asm_steps: Annotated[
        int, typer.Option(help="Pretraining steps, for methods that start from a model.", min=0)
    ] = 5000,
    asm_objective: ASMObjective = "mam",
    masking: MaskingKind = None,
    masking_rate: MaskingRate = 0.15,
    masking_split: MaskingSplit = (0.8, 0.1),
    fully_masked: FullyMasked = 0.2,
    precision: Precision = None,
    asm: Annotated[
        str | None,
        typer.Option(help="A stored model to start from (its folder, KEY/STEP or KEY), instead of pretraining one."),
    ] = None,
    clone_steps: Annotated[
        int | None,
        typer.Option(help="Steps of cloning, for methods that start from a clone; --asm-steps by default.", min=0),
    ] = None,
    clone: Annotated[
        str | None,
        typer.Option(help="A stored clone to start from (its folder, KEY/STEP or KEY), instead of making one."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other setting, such as expectile=0.7; repeatable."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; made from its settings by default.")] = None,
    version: Version = None,
    root: DataRoot = "data",
    storage: Storage = Path("results"),
    tracking_uri: TrackingURI = None,
) -> None:
    """Train a policy offline, once per seed, on the model it needs.

    The model is pretrained first where the store does not have it. The same command resumes an interrupted run.
    """
    run = api.train(
        algorithm,
        task,
        level,
        objective=objective,
        bins=bins,
        version=version,
        preset=preset,
        seeds=seed or (0,),
        updates=updates,
        evaluate_every=evaluate_every,
        episodes=episodes,
        asm_steps=asm_steps,
        asm_objective=asm_objective,
        masking=masking_of(preset, masking, masking_rate, masking_split, fully_masked),
        asm_precision=precision,
        asm=asm,
        clone_steps=clone_steps,
        clone=clone,
        settings=parse_settings(settings or ()),
        name=name,
        root=root,
        storage=storage,
        tracking_uri=tracking_uri,
    )
    show_run(run)
