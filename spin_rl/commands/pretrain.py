"""``spin-rl pretrain``: action structure models into the store."""

from pathlib import Path
from typing import Annotated

import typer

from spin_rl.commands.options import (
    ASMObjective,
    Bins,
    FullyMasked,
    LevelName,
    Masking,
    MaskingRate,
    MaskingSplit,
    Precision,
    Preset,
    Root,
    Storage,
    TaskName,
    Version,
)


def pretrain(
    task: TaskName,
    level: LevelName,
    steps: Annotated[
        list[int] | None, typer.Option(help="Steps to keep a checkpoint at; give it once for each.", min=0)
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Instead of --steps: the last epoch.", min=0)] = None,
    bins: Bins = 3,
    version: Version = None,
    preset: Preset = "small",
    asm_objective: ASMObjective = "mam",
    masking: Masking = None,
    masking_rate: MaskingRate = 0.15,
    masking_split: MaskingSplit = (0.8, 0.1),
    fully_masked: FullyMasked = 0.2,
    kl_weight: Annotated[float, typer.Option(help="With vam: weight of the divergence in the bound.")] = 1.0,
    latent_width: Annotated[int, typer.Option(help="With vam: size of the Gaussian latent.")] = 32,
    temperature: Annotated[float, typer.Option(help="With cam: temperature of the contrast.")] = 0.1,
    precision: Precision = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same model.")] = 0,
    threads: Annotated[
        int, typer.Option(help="CPU threads; their number decides how sums are rounded, so sweeps use one.", min=1)
    ] = 1,
    root: Root = "data",
    storage: Storage = Path("results"),
) -> None:
    """Pretrain an action structure model into the store, or find it there; prints the checkpoints' folders.

    Goes on from the nearest earlier checkpoint of the same model, so that asking for more steps costs the difference.
    """
    import torch
    from rich.console import Console

    from spin_rl.algorithms.asm.checkpoints import ensure_asm
    from spin_rl.commands.display import progress_bar
    from spin_rl.platform.asm_store.store import ASMStore, asm_root
    from spin_rl.platform.datasets import open_dataset
    from spin_rl.sweeps.planning.models import asm_config, masking_of

    console = Console()
    torch.set_num_threads(threads)
    dataset = open_dataset(task, level, bins=bins, root=root, version=version)
    mask, randomise = masking_split
    config = asm_config(
        preset,
        seed,
        objective=asm_objective,
        masking=masking_of(
            preset, masking, rate=masking_rate, mask=mask, randomise=randomise, fully_masked=fully_masked
        ),
        precision=precision,
        kl_weight=kl_weight,
        latent_width=latent_width,
        temperature=temperature,
    )
    wanted = steps or [5000]
    if epochs is not None:
        wanted = [epochs * -(-len(dataset) // config.batch_size)]
    store = ASMStore(asm_root(storage.absolute()))
    with progress_bar() as progress:
        bar = progress.add_task("looking into the store", total=None)

        def on_step(step: int, loss: float) -> None:
            nonlocal bar
            if progress.tasks[-1].total is None:  # only now it is known where it goes on: time left counts from there
                progress.remove_task(bar)
                bar = progress.add_task("", total=max(wanted), completed=step)
            progress.update(bar, completed=step, description=f"pretraining, loss {loss:.3f}")

        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        checkpoints = ensure_asm(store, dataset, config, wanted, device=device, on_step=on_step)
        progress.update(bar, total=max(wanted), completed=max(wanted))
    for checkpoint in checkpoints:
        console.print(
            f"step {checkpoint.step}: held-out loss {checkpoint.validation_loss:.3f}, accuracy "
            f"{checkpoint.validation_accuracy:.1%}; fully masked {checkpoint.full_loss:.3f}, "
            f"{checkpoint.full_accuracy:.1%}; {config.objective} {checkpoint.objective_loss or float('nan'):.3f}; "
            f"{checkpoint.pretrain_seconds:.0f} s"
        )
        console.print(checkpoint.path, soft_wrap=True)
