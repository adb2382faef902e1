"""``spin-rl sweep``: plan an experiment over many trials, say what it will cost, run it, go on with it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spin_rl.commands.options import Root, Storage
from spin_rl.commands.run import Tracking, run_and_report

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from spin_rl.sweeps.planning.plan import SweepPlan
    from spin_rl.sweeps.planning.space import Space

TINY_SIZE = 2000
"""Transitions of the datasets of a tiny sweep."""


def sweep(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="pretraining-length, head-size, stop-time, masking or baselines; or a Python file that defines SWEEP; "
            "with --resume also a sweep's own name.",
        ),
    ],
    tiny: Annotated[bool, typer.Option("--tiny", help="A run in seconds on tiny datasets.")] = False,
    tasks: Annotated[str | None, typer.Option(help="Tasks, as in cheetah-run,finger-spin.")] = None,
    levels: Annotated[str | None, typer.Option(help="Levels of the datasets.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds, as in 0,1,2.")] = None,
    algorithms: Annotated[str | None, typer.Option(help="Methods.")] = None,
    objectives: Annotated[str | None, typer.Option(help="Offline objectives.")] = None,
    preset: Annotated[str | None, typer.Option(help="Sizes of the networks: paper, small or tiny.")] = None,
    updates: Annotated[int | None, typer.Option(help="Policy updates of every trial.", min=1)] = None,
    evaluations: Annotated[int | None, typer.Option(help="Evaluations of every trial, about.", min=1)] = None,
    episodes: Annotated[int | None, typer.Option(help="Episodes of an evaluation.", min=1)] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=V1,V2", help="Values of any parameter, as in asm_steps=0,500; repeatable."),
    ] = None,
    run_name: Annotated[
        str | None, typer.Option("--name", help="Name of the results; made from the settings by default.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Points that a search tries, each with every seed; more go on with it.", min=1)
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="What ends a search's trials early: none or asha; none by default.")
    ] = None,
    study_storage: Annotated[
        str | None,
        typer.Option(
            help="Database of a search's studies, as in postgresql://USER@HOST/NAME; a file in the storage by default.",
            envvar="SPIN_RL_STUDY_STORAGE",
            show_envvar=True,
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a sweep as it was begun.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and end.")] = False,
    cpus_per_trial: Annotated[int, typer.Option(help="CPUs of each trial.", min=1)] = 1,
    gpus_per_trial: Annotated[
        float, typer.Option(help="GPUs of each trial; a fraction where several share one.", min=0)
    ] = 0,
    root: Root = "data",
    storage: Storage = Path("results"),
    tracking_uri: Tracking = None,
) -> None:
    """Run an experiment over many trials: its plan first, then what it pretrains, its trials and its report.

    The same command again goes on where it stood, and so does --resume with nothing but the name.
    """
    from rich.console import Console

    from spin_rl.platform.datasets.store import absolute_root

    storage = storage.absolute()
    lists = {"task": tasks, "level": levels, "seed": seeds, "algorithm": algorithms, "objective": objectives}
    ones = {"preset": preset, "updates": updates, "evaluations": evaluations, "episodes": episodes}
    changes = {key: parse_values(key, text) for key, text in lists.items() if text is not None}
    changes |= {key: (value,) for key, value in ones.items() if value is not None}
    changes |= parse_space(settings or ())
    console = Console()
    if resume:
        plan = stored_plan(name, storage, changes, tiny=tiny)
    else:
        plan = new_plan(name, changes, absolute_root(root), storage, tiny=tiny)
        plan = plan.named(run_name) if run_name else plan
    if trials is not None or scheduler is not None:
        from spin_rl.sweeps.planning.search import with_search_options

        plan = with_search_options(plan, points=trials, scheduler=scheduler)
    show_plan(plan, storage, console)
    if not dry_run:
        resources = {"cpus_per_trial": cpus_per_trial, "gpus_per_trial": gpus_per_trial}
        run_and_report(plan, storage, tracking_uri, study_storage=study_storage, **resources)


def new_plan(name: str, changes: "Space", root: str, storage: Path, *, tiny: bool) -> "SweepPlan":
    """The plan of the sweep called ``name`` with these changes; a tiny one's datasets are collected if need be."""
    from spin_rl.platform.asm_store.store import asm_root
    from spin_rl.sweeps.registry import get_sweep

    definition = get_sweep(name)
    space = definition.resolve(changes, tiny=tiny)
    if tiny:
        root = f"{root}/tiny"  # apart from the datasets of real runs, of which the newest is the default
        make_datasets(space, root)
    plan = definition.plan(space, root, asm_root(storage))
    return replace(plan, sweep=str(Path(name).absolute()) if name.endswith(".py") else name)


def stored_plan(name: str, storage: Path, changes: "Space", *, tiny: bool) -> "SweepPlan":
    """The plan of a sweep that was begun: the one of this name, or the only one of this kind.

    Raises:
        UserError: there is none, more than one, or settings are given that it has already.
    """
    from spin_rl.errors import UserError
    from spin_rl.platform.results.files import find_sweep, folder_name
    from spin_rl.sweeps.planning.plan import read_plan

    if changes or tiny:
        given = ", ".join([*changes, *(["tiny"] if tiny else [])])
        raise UserError(f"--resume goes on with the settings that a sweep has: leave out {given}, or --resume.")
    if not (storage / folder_name(name) / "sweep.json").is_file():
        kind = str(Path(name).absolute()) if name.endswith(".py") else name
        begun = {path.parent.name: read_plan(path.parent) for path in sorted(storage.glob("*/plan.json"))}
        found = [folder for folder, plan in begun.items() if plan and plan.sweep == kind]
        if len(found) > 1:
            raise UserError(f"There are {len(found)} sweeps {name} in {storage}: resume one of {', '.join(found)}.")
        name = found[0] if found else name
    folder = find_sweep(name, storage)
    plan = read_plan(folder)
    if plan is None:
        raise UserError(f"{folder} was not made by 'spin-rl sweep': give the command again that made it.")
    return plan


def make_datasets(space: "Space", root: str) -> None:
    """Collect what a tiny sweep trains on, where it is not there."""
    from itertools import product

    from spin_rl.commands.display import collect_with_progress
    from spin_rl.envs import get_task

    for task, bins, level in product(space["task"], space["bins"], space["level"]):
        collect_with_progress(get_task(task, bins), level, TINY_SIZE, root=root, workers=0)


def parse_values(name: str, text: str) -> tuple[Any, ...]:
    """The values in ``v1,v2``: JSON where they are, else words."""
    from spin_rl.errors import UserError

    try:
        values = json.loads(f"[{text}]")
    except ValueError:
        values = [_value(word.strip()) for word in text.split(",")]
    if not values or "" in values:
        raise UserError(f"The space is empty: {name} has no value in '{text}'. Write {name}=V1,V2.")
    return tuple(values)


def parse_space(assignments: "list[str] | tuple[str, ...]") -> "Space":
    """Parameters from ``NAME=V1,V2``."""
    from spin_rl.errors import UserError

    space = {}
    for assignment in assignments:
        name, found, text = assignment.partition("=")
        if not found:
            raise UserError(f"'{assignment}' sets nothing; write NAME=V1,V2.")
        space[name] = parse_values(name, text)
    return space


def _value(word: str) -> Any:
    try:
        return json.loads(word)
    except ValueError:
        return word


def _time_of(plan: "SweepPlan", coming: "Iterable[Mapping[str, Any]]", storage: Path) -> str:
    """What is known of the time that a plan will take."""
    from spin_rl.sweeps.running.estimate import estimate
    from spin_rl.sweeps.running.progress import in_words

    expected = estimate(plan, coming, storage)
    parts = {"trials": expected.trials, "pretraining": expected.pretrainings}
    said = [f"{in_words(seconds)} of {name}" for name, seconds in parts.items() if seconds]
    said += [f"{name} of a kind that was never timed here" for name, seconds in parts.items() if seconds is None]
    return f" ({', '.join(said)}; one after the other)" if said else ""


def show_plan(plan: "SweepPlan", storage: Path, console: Any) -> None:
    """Print what a plan will do."""
    from rich.table import Table

    from spin_rl.platform.results.files import folder_name
    from spin_rl.sweeps.running.completion import open_trials

    folder = storage / folder_name(plan.name)
    table = Table("parameter", "values", title=plan.name, title_justify="left")
    for name, values in plan.space.items():
        table.add_row(name, ", ".join(map(str, values)))
    console.print(plan.description, soft_wrap=True)
    console.print(table)
    if plan.search:
        search = plan.search
        problems, points, seeds = len(search["problems"]), search["points"], len(search["seeds"])
        trials = f"{problems} x {points} points of {seeds} trials, scheduler {search['scheduler']}"
    else:
        coming = open_trials(folder, plan)
        trials = f"{len(plan.trials)} trials, {len(coming)} of them to do{_time_of(plan, coming.values(), storage)}"
    steps = sum(max(item.steps) for item in plan.pretrainings)
    console.print(
        f"{trials}; {len(plan.pretrainings)} pretrainings of together {steps:,} steps. Results: {folder}",
        soft_wrap=True,
        highlight=False,
    )
