"""``spin-rl video``: a policy, or an episode of a dataset, as an MP4."""

from pathlib import Path
from typing import Annotated

import torch
import typer

from spin_rl.algorithms.evaluation.batch_policy import ActingPolicy
from spin_rl.algorithms.training.checkpoints import load_objective
from spin_rl.commands.data_display import open_with_progress
from spin_rl.commands.display import console, progress_bar
from spin_rl.commands.options import Bins, DataRootOrDefault, Policies, Storage, Version
from spin_rl.envs import BatchPolicy, Task, get_task
from spin_rl.errors import UserError
from spin_rl.platform.datasets import find_metadata
from spin_rl.platform.datasets.collect import behaviour_policy
from spin_rl.platform.datasets.levels import LEVELS
from spin_rl.platform.evaluation.video import film_episode, film_policy
from spin_rl.sweeps.running.trained_policies import find_policies


def video(
    what: Annotated[
        str,
        typer.Argument(metavar="RUN|TASK", help="A trial (SWEEP/TRIAL), a checkpoint's folder, or a task."),
    ],
    level: Annotated[
        str | None,
        typer.Argument(
            metavar="LEVEL", help="With a task: random, medium or expert; with --episode: any level of a dataset."
        ),
    ] = None,
    episode: Annotated[int | None, typer.Option(help="Number of the dataset's episode, from 0 on.", min=0)] = None,
    seed: Annotated[int, typer.Option(help="Seed of the episode that a policy plays.", min=0)] = 0,
    greedy: Annotated[
        bool | None,
        typer.Option("--greedy/--sampled", help="Actions of a trained policy; by default as in its evaluation."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="MP4 to write; under --storage by default.")] = None,
    bins: Bins = 3,
    version: Version = None,
    root: DataRootOrDefault = None,
    policies: Policies = None,
    storage: Storage = Path("results"),
) -> None:
    """Film a policy, or an episode of a dataset; needs no display.

    \b
    spin-rl video SWEEP/TRIAL                            a trained policy
    spin-rl video cheetah-run expert                     a behaviour policy
    spin-rl video cheetah-run medium-expert --episode 3  an episode of a dataset
    """
    policy: BatchPolicy | None
    if level is None:
        if episode is not None:
            raise UserError(
                "--episode belongs to a dataset: name its task and level, such as: cheetah-run medium-expert."
            )
        task, policy, name = trained(what, storage, greedy)
    else:
        task = get_task(what, bins)
        name = f"{task.key}-{level}"
        policy = behaviour(task, level, policies) if episode is None else None
    with progress_bar() as progress:
        bar = progress.add_task(f"filming {name}", total=None)
        if policy is None:
            assert level is not None
            assert episode is not None
            dataset = open_with_progress(find_metadata(what, level, bins=bins, root=root, version=version), root)
            path = output or storage / "video" / f"{name}-v{dataset.metadata.version}-episode-{episode}.mp4"
            result = film_episode(task, dataset, episode, path, on_step=lambda made: progress.advance(bar, made))
        else:
            path = output or storage / "video" / f"{name}-seed-{seed}.mp4"
            result = film_policy(task, policy, path, seed=seed, on_step=lambda made: progress.advance(bar, made))
    console.print(f"Return {result:.1f}, filmed in {path}", soft_wrap=True)


def trained(run: str, storage: Path, greedy: bool | None) -> tuple[Task, BatchPolicy, str]:
    """Task, policy and name of the one trial that ``run`` names."""
    trials = find_policies(run, storage.absolute())
    if len(trials) > 1:
        labels = ", ".join(trial.label for trial in trials)
        raise UserError(f"{run} has several trials; name one as {run}/TRIAL. There is: {labels}.")
    trial = trials[0]
    objective = load_objective(trial.checkpoint)
    sample = objective.sampled if greedy is None else not greedy
    name = "-".join(part for part in run.split("/") if part not in ("", ".", "..")) or trial.label
    return get_task(trial.task, trial.bins), ActingPolicy(objective, torch.device("cpu"), sample=sample), name


def behaviour(task: Task, level: str, policies: Path | None) -> BatchPolicy:
    """The behaviour policy of a level."""
    single = [name for name, behaviours in LEVELS.items() if behaviours == (name,)]
    if level in LEVELS and level not in single:
        raise UserError(f"{level} has several policies: name one of {', '.join(single)}, or --episode of a dataset.")
    return behaviour_policy(task, level, policies=policies)
