"""``spin-rl data train-behaviour`` and ``ship-behaviour``: the policies that datasets are collected with."""

import inspect
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from spin_rl import api
from spin_rl.commands.display import console, progress_bar
from spin_rl.commands.options import Bins, Policies, Storage, TaskName, one_of
from spin_rl.envs.behaviour.library import SHIPPED
from spin_rl.envs.behaviour.settings import ALGORITHMS, describe_settings, parse_settings
from spin_rl.envs.behaviour.training import Evaluation


def train_behaviour(
    task: TaskName,
    steps: Annotated[int, typer.Option(help="Environment steps, those of earlier runs included.")] = 1_000_000,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal bits.")] = 0,
    bins: Bins = 3,
    algorithm: Annotated[
        str | None,
        typer.Option(
            help=f"{one_of(ALGORITHMS)}: a value per sub-action, or a critic of joint actions, for many sub-actions; "
            "decqn by default."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="One of the settings above; repeatable."),
    ] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(
            help="Start from the networks of another training with as many bins or fewer: its folder, a snapshot in "
            "it, or a shipped policy, such as dog-trot-10/expert."
        ),
    ] = None,
    anneal: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Last steps, over which learning rate and exploration fall to a tenth; may be added when resuming.",
        ),
    ] = None,
    actors: Annotated[
        int | None,
        typer.Option(min=0, help="Ray actors that step the environments; 0: none. One per CPU but one by default."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="Device of the learner; a GPU where there is one.")] = None,
    storage: Storage = Path("results"),
) -> None:
    """Train a behaviour policy online, with DecQN or SAC.

    A training that exists resumes from its checkpoint and keeps the settings that are not given. Its bits depend on
    all options but --actors, --storage and how often it is evaluated.
    """
    with progress_bar() as progress:
        bar = progress.add_task(f"{task}-{bins}", total=steps)

        def on_evaluation(point: Evaluation) -> None:
            returns = f"return {point.return_mean:.1f} ± {point.return_std:.1f}"
            progress.update(bar, completed=point.step, description=f"{task}-{bins}, {returns}")

        folder = api.train_behaviour(
            task,
            steps=steps,
            seed=seed,
            bins=bins,
            algorithm=algorithm,
            settings=parse_settings(settings or ()),
            start_from=start_from,
            anneal=anneal,
            actors=actors,
            device=device,
            storage=storage,
            on_step=lambda made: progress.update(bar, completed=made),
            on_evaluation=on_evaluation,
        )
    console.print(
        f"Curve and snapshots are in {folder}. Next: spin-rl data ship-behaviour {task} --bins {bins}", soft_wrap=True
    )


train_behaviour.__doc__ = "\n".join(
    [inspect.getdoc(train_behaviour) or "", "", "\b", "Settings of a new training, for --set:", *describe_settings()]
)


def ship_behaviour(
    task: TaskName,
    seed: Annotated[int, typer.Option(help="Seed of the training.")] = 0,
    bins: Bins = 3,
    level: Annotated[list[str] | None, typer.Option(help="medium or expert, repeatable; both by default.")] = None,
    episodes: Annotated[int, typer.Option(min=20, help="Episodes that a card's return is measured over.")] = 30,
    storage: Storage = Path("results"),
    policies: Policies = None,
) -> None:
    """Select a medium and an expert policy from a behaviour training.

    Measures them on fresh episodes and writes weights and cards.
    """
    with console.status("measuring snapshots"):
        cards = api.ship_behaviour(
            task,
            seed=seed,
            bins=bins,
            levels=level or ("medium", "expert"),
            episodes=episodes,
            storage=storage,
            policies=policies,
            on_measured=console.print,
        )
    table = Table("level", "step", "return", "of the expert's", "normalized", title=str(policies or SHIPPED))
    for card in cards:
        returns = f"{card.return_mean:.1f} ± {card.return_std:.1f}"
        table.add_row(card.label, f"{card.steps:,}", returns, card.share, f"{card.normalized_score:.1f}")
    console.print(table)
