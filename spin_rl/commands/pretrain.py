"""``spin-rl pretrain``: action structure models and clones into the store."""

from pathlib import Path
from typing import Annotated

import typer

from spin_rl import api
from spin_rl.algorithms.methods import METHODS
from spin_rl.commands.display import progress_bar
from spin_rl.commands.method_options import (
    ASMObjective,
    FullyMasked,
    MaskingKind,
    MaskingRate,
    MaskingSplit,
    Precision,
    Preset,
    masking_of,
)
from spin_rl.commands.options import Bins, DataRoot, LevelName, Storage, TaskName, Version, one_of
from spin_rl.commands.run_display import show_checkpoint

CLONED = tuple(name for name, method in METHODS.items() if method.uses_clone)


def pretrain(
    task: TaskName,
    level: LevelName,
    steps: Annotated[
        list[int] | None,
        typer.Option(help="Steps to keep a checkpoint at, repeatable; 5000 by default.", min=0),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Instead of --steps: epochs of the dataset.", min=0)] = None,
    bins: Bins = 3,
    version: Version = None,
    preset: Preset = "small",
    method: Annotated[
        str,
        typer.Option(
            help=f"What it is for: {one_of(CLONED)} get a clone of their own network, spin and the like an action "
            "structure model.",
        ),
    ] = "spin",
    asm_objective: ASMObjective = "mam",
    masking: MaskingKind = None,
    masking_rate: MaskingRate = 0.15,
    masking_split: MaskingSplit = (0.8, 0.1),
    fully_masked: FullyMasked = 0.2,
    kl_weight: Annotated[float, typer.Option(help="With vam: weight of the divergence in the bound.")] = 1.0,
    latent_width: Annotated[int, typer.Option(help="With vam: size of the Gaussian latent.")] = 32,
    temperature: Annotated[float, typer.Option(help="With cam: temperature of the contrast.")] = 0.1,
    precision: Precision = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal models.")] = 0,
    threads: Annotated[
        int, typer.Option(help="CPU threads; their number decides how sums are rounded, so sweeps use one.", min=1)
    ] = 1,
    root: DataRoot = "data",
    storage: Storage = Path("results"),
) -> None:
    """Pretrain an action structure model or a clone, or find it in the store.

    Resumes from the nearest earlier checkpoint of the same model, so that more steps cost the difference. Prints the
    folders of the checkpoints.
    """
    with progress_bar() as progress:
        bar = progress.add_task("looking into the store", total=None)

        def on_step(step: int, last: int, loss: float) -> None:
            nonlocal bar
            if progress.tasks[-1].total is None:  # only now is it known where it resumes: time left counts from there
                progress.remove_task(bar)
                bar = progress.add_task("", total=last, completed=step)
            progress.update(bar, completed=step, description=f"pretraining, loss {loss:.3f}")

        checkpoints = api.pretrain(
            task,
            level,
            steps=steps or 5000,
            epochs=epochs,
            bins=bins,
            version=version,
            preset=preset,
            method=method,
            objective=asm_objective,
            masking=masking_of(preset, masking, masking_rate, masking_split, fully_masked),
            precision=precision,
            kl_weight=kl_weight,
            latent_width=latent_width,
            temperature=temperature,
            seed=seed,
            threads=threads,
            root=root,
            storage=storage,
            on_step=on_step,
        )
        last = max(checkpoint.step for checkpoint in checkpoints)
        progress.update(bar, total=max(1, last), completed=max(1, last))
    for checkpoint in checkpoints:
        show_checkpoint(checkpoint)
