"""``spin-rl evaluate``: trained policies, from their last checkpoints."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from spin_rl import api
from spin_rl.commands.display import console
from spin_rl.commands.options import Storage


def evaluate(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A sweep or training (name or folder), a trial (NAME/ID) or a checkpoint."),
    ],
    episodes: Annotated[int, typer.Option(help="Whole episodes of each policy.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the episodes.", min=0)] = 0,
    greedy: Annotated[
        bool | None,
        typer.Option(
            "--greedy/--sampled",
            help="Take the best actions or sample them; by default what the paper did with the objective.",
        ),
    ] = None,
    storage: Storage = Path("results"),
) -> None:
    """Evaluate trained policies from their last checkpoints."""
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("evaluating", total=None)
        found = api.evaluate(
            run,
            episodes,
            seed=seed,
            greedy=greedy,
            storage=storage,
            on_trial=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    table = Table("trial", "updates", "return", "normalised", title=f"{episodes} episodes, seed {seed}")
    for trial, result in ((one.trial, one.result) for one in found):
        table.add_row(
            trial.label,
            f"{trial.updates:,}",
            f"{result.return_mean:.1f} ± {result.return_std:.1f}",
            f"{result.normalized_score:.1f}",
        )
    console.print(table)
