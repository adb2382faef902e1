"""``spin-rl quickstart``: from data to a report in minutes."""

from pathlib import Path
from typing import Annotated

import typer

from spin_rl import api
from spin_rl.commands.data_display import collect_with_progress
from spin_rl.commands.method_options import OptionalPreset
from spin_rl.commands.options import DataRoot, Storage, TrackingURI
from spin_rl.commands.run_display import show_run


def quickstart(
    root: DataRoot = "data",
    storage: Storage = Path("results"),
    tracking_uri: TrackingURI = None,
    seed: Annotated[list[int] | None, typer.Option("--seed", help="A seed, repeatable; 0 and 1 by default.")] = None,
    updates: Annotated[int | None, typer.Option(help="Policy updates of each trial.", min=1)] = None,
    asm_steps: Annotated[int | None, typer.Option(help="Pretraining steps of SPIN's models.", min=0)] = None,
    episodes: Annotated[int | None, typer.Option(help="Episodes of an evaluation.", min=1)] = None,
    size: Annotated[int | None, typer.Option(help="Transitions of the dataset.", min=1000)] = None,
    preset: OptionalPreset = None,
) -> None:
    """Run the main experiment in minutes: data, pretraining, four methods, a report.

    A second run finds what the first one made; an interrupted one resumes.
    """
    run = api.quickstart(
        seeds=seed,
        updates=updates,
        asm_steps=asm_steps,
        episodes=episodes,
        size=size,
        preset=preset,
        root=root,
        storage=storage,
        tracking_uri=tracking_uri,
        collect=collect_with_progress,
    )
    show_run(run)
