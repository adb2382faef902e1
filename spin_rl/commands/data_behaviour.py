"""``spin-rl data train-behaviour`` and ``ship-behaviour``: the policies that datasets are collected with."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from spin_rl.commands.display import console, progress_bar
from spin_rl.commands.options import Bins, Policies, Storage, TaskName


def train_behaviour(
    task: TaskName,
    steps: Annotated[int, typer.Option(help="Environment steps, those of earlier sittings included.")] = 1_000_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bits.")] = 0,
    bins: Bins = 3,
    algorithm: Annotated[
        str | None,
        typer.Option(
            help="decqn, a value for each sub-action; sac, a critic of joint actions, for many sub-actions. decqn, or "
            "what the training has."
        ),
    ] = None,
    envs: Annotated[int | None, typer.Option(help="Environments, a multiple of --group; 8, or what it has.")] = None,
    group: Annotated[
        int | None,
        typer.Option(
            min=1, help="Environments that decide together: few for many actors; 2, or what the training has."
        ),
    ] = None,
    ahead: Annotated[
        int | None,
        typer.Option(min=0, help="Steps that they go while the learner works; 20, or what the training has."),
    ] = None,
    normalize: Annotated[
        bool | None,
        typer.Option(help="Centre and scale the observations by those so far; done, or what the training has."),
    ] = None,
    symlog: Annotated[
        bool | None,
        typer.Option(help="Of the observations, their symmetric logarithm; not, or what the training has."),
    ] = None,
    critics: Annotated[
        int | None,
        typer.Option(min=1, help="Of sac, of whose values the smallest is learnt from; 1, or what the training has."),
    ] = None,
    entropy: Annotated[
        float | None,
        typer.Option(help="Of the choices that sac draws, as a share of the largest; 0.36, or as it has."),
    ] = None,
    episode_steps: Annotated[
        int | None,
        typer.Option(
            min=0, help="Steps after which the training starts anew; 0, the task's, or as it has. Evaluations don't."
        ),
    ] = None,
    epsilon: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Exploration of a sub-action by decqn in the end; 0.05, or as it has."),
    ] = None,
    gamma: Annotated[
        float | None, typer.Option(min=0, max=1, help="Discount of a decision; 0.99, or what the training has.")
    ] = None,
    n_step: Annotated[
        int | None,
        typer.Option(min=1, help="Decisions whose rewards a return sums before its value; 3, or as it has."),
    ] = None,
    warmup_steps: Annotated[
        int | None, typer.Option(min=1, help="Environment steps before the first update; 8000, or as it has.")
    ] = None,
    steps_per_update: Annotated[
        int | None, typer.Option(min=1, help="Environment steps for each update; 4, or what the training has.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Of an update; 256, or what the training has.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="0.0003, or what the training has.")] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(
            help="Begin with what another training, of as many bins or fewer, learnt: its folder, or for what acts "
            "alone a snapshot in it, or a shipped policy, such as dog-trot-10/expert. It has its network."
        ),
    ] = None,
    anneal: Annotated[
        int | None,
        typer.Option(
            min=1, help="Last steps, over which learning rate and exploration fall to a tenth. May be said later."
        ),
    ] = None,
    evaluation_rounds: Annotated[
        int | None,
        typer.Option(min=1, help="Episodes of every environment between evaluations; 2, or what the training has."),
    ] = None,
    actors: Annotated[
        int | None,
        typer.Option(min=0, help="Ray actors that step them; 0: this process. All CPUs but the learner's by default."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="Of the learner; a GPU where there is one.")] = None,
    storage: Storage = Path("results"),
) -> None:
    """Train a behaviour policy online, with DecQN or SAC. A training that is there goes on from its checkpoint.

    Its bits depend on all options but --evaluation-rounds, --actors and --storage.
    """
    from spin_rl.envs import get_task
    from spin_rl.envs.behaviour.checkpoint import sole_training
    from spin_rl.envs.behaviour.growth import start_from as begin_with
    from spin_rl.envs.behaviour.settings import ALGORITHMS, BehaviourSettings, settings_of
    from spin_rl.envs.behaviour.training import BehaviourTraining
    from spin_rl.errors import UserError
    from spin_rl.platform.behaviour.actors import open_collector
    from spin_rl.platform.behaviour.curve import BehaviourCurve

    problem = get_task(task, bins)
    folder = storage / "behaviour" / problem.key / f"seed-{seed}"
    settings = settings_of(folder) or BehaviourSettings(seed=seed, ahead=20, normalize=True)
    named: dict[str, Any] = {
        "algorithm": algorithm,
        "envs": envs,
        "group": group,
        "ahead": ahead,
        "normalize": normalize,
        "symlog": symlog,
        "critics": critics,
        "entropy": entropy,
        "epsilon_final": epsilon,
        "gamma": gamma,
        "n_step": n_step,
        "episode_steps": episode_steps,
        "batch_size": batch_size,
        "warmup_steps": warmup_steps,
        "steps_per_update": steps_per_update,
        "learning_rate": learning_rate,
        "evaluation_rounds": evaluation_rounds,
    }
    settings = replace(settings, **{name: value for name, value in named.items() if value is not None})
    if anneal is not None:
        if anneal > steps:
            raise UserError(f"The last {anneal:,} of {steps:,} steps can't be annealed; --steps counts them all.")
        settings = replace(settings, anneal_from=steps - anneal, anneal_steps=anneal)
    start = None
    if start_from is not None:
        settings, start = begin_with(start_from, problem, settings)
    learner = learner_device(device)
    with sole_training(folder), open_collector(problem, settings, actors) as collector:
        trainer = BehaviourTraining(problem, settings, folder, collector=collector, device=learner, start=start)
        with (
            BehaviourCurve(storage, problem, seed, folder, ALGORITHMS[settings.algorithm]) as curve,
            progress_bar() as progress,
        ):
            bar = progress.add_task(f"{problem.key}", total=steps)
            for point in trainer.train(steps, lambda made: progress.update(bar, completed=made)):
                curve.log(point)
                returns = f"return {point.return_mean:.1f} ± {point.return_std:.1f}"
                progress.update(bar, completed=point.step, description=f"{problem.key}, {returns}")
    console.print(f"Curve and snapshots are in {folder}. Next: spin-rl data ship-behaviour {task} --bins {bins}")


def learner_device(named: str | None) -> str:
    """The device asked for, or a GPU where there is one; and one thread, as the bits depend on their number."""
    import torch

    from spin_rl.errors import UserError

    torch.set_num_threads(1)
    if named is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return str(torch.empty(0, device=named).device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"There is no device {named} here: {str(error).splitlines()[0]}") from error


def ship_behaviour(
    task: TaskName,
    seed: Annotated[int, typer.Option(help="Seed of the training.")] = 0,
    bins: Bins = 3,
    level: Annotated[list[str] | None, typer.Option(help="Which to ship: medium, expert.")] = None,
    episodes: Annotated[int, typer.Option(min=20, help="Episodes that a card's return is measured over.")] = 30,
    storage: Storage = Path("results"),
    policies: Policies = None,
) -> None:
    """Choose a medium and an expert policy from a training, measure them, write weights and cards."""
    import torch

    from spin_rl.envs import get_task
    from spin_rl.envs.behaviour.library import SHIPPED
    from spin_rl.envs.behaviour.shipping import ship
    from spin_rl.errors import UserError

    torch.set_num_threads(1)
    problem = get_task(task, bins)
    levels = tuple(level or ("medium", "expert"))
    if unknown := set(levels) - {"medium", "expert"}:
        raise UserError(f"A level to ship is medium or expert, not {', '.join(sorted(unknown))}.")
    folder = storage / "behaviour" / problem.key / f"seed-{seed}"
    with console.status("measuring snapshots"):
        cards = ship(
            problem,
            folder,
            folder=policies,
            levels=levels,
            episodes=episodes,
            on_measured=lambda line: console.print(line),
        )
    table = Table("level", "step", "return", "of the expert's", "normalized", title=str(policies or SHIPPED))
    for card in cards:
        returns = f"{card.return_mean:.1f} ± {card.return_std:.1f}"
        table.add_row(card.label, f"{card.steps:,}", returns, card.share, f"{card.normalized_score:.1f}")
    console.print(table)
