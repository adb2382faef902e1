"""Behaviour policies: trained online, then shipped for collecting datasets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from spin_rl.envs import get_task
from spin_rl.envs.behaviour.checkpoint import sole_training
from spin_rl.envs.behaviour.growth import start_from as initialize_from
from spin_rl.envs.behaviour.library import PolicyCard
from spin_rl.envs.behaviour.settings import ALGORITHMS, NEW_TRAINING, read_settings
from spin_rl.envs.behaviour.shipping import ship
from spin_rl.envs.behaviour.training import BehaviourTraining, Evaluation
from spin_rl.errors import UserError
from spin_rl.platform.behaviour.actors import open_collector
from spin_rl.platform.behaviour.curve import BehaviourCurve
from spin_rl.platform.results.files import storage_root

LEVELS = ("medium", "expert")
"""Levels that are shipped; random needs no training."""


def train_behaviour(
    task: str,
    *,
    steps: int = 1_000_000,
    seed: int = 0,
    bins: int = 3,
    algorithm: str | None = None,
    settings: Mapping[str, Any] | None = None,
    start_from: Path | None = None,
    anneal: int | None = None,
    actors: int | None = None,
    device: str | None = None,
    storage: str | Path | None = None,
    on_step: Callable[[int], None] | None = None,
    on_evaluation: Callable[[Evaluation], None] | None = None,
) -> Path:
    """Train a behaviour policy online, or resume its training; returns the training's folder.

    Its bits depend on all arguments but ``actors`` and ``storage``. Takes one thread of PyTorch, as the bits depend on
    their number, and leaves it so.

    Example: ``train_behaviour("finger-spin", steps=90_000, settings={"envs": 16})``

    Args:
        task: name of the task.
        steps: environment steps, those of earlier calls included.
        seed: equal seeds give equal bits.
        bins: choices of each action dimension.
        algorithm: decqn or sac; a training that exists keeps its own by default.
        settings: fields of `BehaviourSettings` by name. One that is not given keeps the training's value.
        start_from: a training, snapshot or shipped policy whose networks to start from.
        anneal: last steps, over which learning rate and exploration fall to a tenth.
        actors: Ray actors that step the environments; 0: this process. One per CPU but the learner's by default.
        device: of the learner; a GPU where there is one by default.
        storage: where results go.
        on_step: called with the environment steps so far.
        on_evaluation: called with each point of the learning curve.

    Raises:
        UserError: unknown task or device, settings that do not fit each other, the training that exists has others,
            or another process trains in the folder.
    """
    problem, results = get_task(task, bins), storage_root(storage)
    folder = _folder(results, problem.key, seed)
    given = {**({"algorithm": algorithm} if algorithm else {}), **(settings or {})}
    config = replace(read_settings(folder) or replace(NEW_TRAINING, seed=seed), **given)
    if anneal is not None:
        if anneal > steps:
            raise UserError(f"The last {anneal:,} of {steps:,} steps cannot be annealed; --steps counts them all.")
        config = replace(config, anneal_from=steps - anneal, anneal_steps=anneal)
    start = None
    if start_from is not None:
        config, start = initialize_from(start_from, problem, config)
    learner = _learner_device(device)
    with sole_training(folder), open_collector(problem, config, actors) as collector:
        training = BehaviourTraining(problem, config, folder, collector=collector, device=learner, start=start)
        with BehaviourCurve(results, problem, seed, folder, ALGORITHMS[config.algorithm]) as curve:
            for point in training.train(steps, on_step):
                curve.log(point)
                if on_evaluation:
                    on_evaluation(point)
    return folder


def ship_behaviour(
    task: str,
    *,
    seed: int = 0,
    bins: int = 3,
    levels: Sequence[str] = LEVELS,
    episodes: int = 30,
    storage: str | Path | None = None,
    policies: Path | None = None,
    on_measured: Callable[[str], None] | None = None,
) -> list[PolicyCard]:
    """Select a medium and an expert policy from a behaviour training, measure them, and write weights and cards.

    Args:
        task: name of the task.
        seed: of the training.
        bins: choices of each action dimension.
        levels: which to ship: medium, expert.
        episodes: that a card's return is measured over, at least 20.
        storage: where results lie.
        policies: folder to write to; that of the shipped policies by default.
        on_measured: called with a line on each snapshot measured.

    Raises:
        UserError: there is no such training, or no snapshot of it fits a level.
    """
    if unknown := set(levels) - set(LEVELS):
        raise UserError(f"A level to ship is medium or expert, not {', '.join(sorted(unknown))}.")
    torch.set_num_threads(1)
    problem = get_task(task, bins)
    return ship(
        problem,
        _folder(storage_root(storage), problem.key, seed),
        folder=policies,
        levels=tuple(levels),
        episodes=episodes,
        on_measured=on_measured,
    )


def _folder(storage: Path, key: str, seed: int) -> Path:
    return storage / "behaviour" / key / f"seed-{seed}"


def _learner_device(named: str | None) -> str:
    """The device asked for, or a GPU where there is one; and one thread, as the bits depend on their number."""
    torch.set_num_threads(1)
    if named is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return str(torch.empty(0, device=named).device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"There is no device {named} here: {str(error).splitlines()[0]}") from error
