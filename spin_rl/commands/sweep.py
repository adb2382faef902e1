"""``spin-rl sweep``: an experiment over many trials; its plan is shown, then run or resumed."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from spin_rl import api
from spin_rl.algorithms.settings.names import parse_value
from spin_rl.commands.data_display import collect_with_progress
from spin_rl.commands.display import console
from spin_rl.commands.method_options import OptionalPreset
from spin_rl.commands.options import DataRoot, Storage, TrackingURI, one_of
from spin_rl.commands.run_display import show_run
from spin_rl.errors import UserError
from spin_rl.platform.results.files import folder_name
from spin_rl.sweeps.planning.search import SCHEDULERS
from spin_rl.sweeps.planning.space import Space
from spin_rl.sweeps.registry import SWEEPS
from spin_rl.sweeps.running.completion import open_trials
from spin_rl.sweeps.running.estimate import estimate
from spin_rl.sweeps.running.progress import in_words


def sweep(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help=f"{one_of(SWEEPS)}; or a Python file that defines SWEEP; with --resume also the name of the results.",
        ),
    ],
    tiny: Annotated[bool, typer.Option("--tiny", help="A run in seconds on tiny datasets.")] = False,
    tasks: Annotated[str | None, typer.Option(help="Tasks, such as cheetah-run,finger-spin.")] = None,
    levels: Annotated[str | None, typer.Option(help="Levels of the datasets.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds, such as 0,1,2.")] = None,
    algorithms: Annotated[str | None, typer.Option(help="Methods.")] = None,
    objectives: Annotated[str | None, typer.Option(help="Offline objectives.")] = None,
    preset: OptionalPreset = None,
    updates: Annotated[int | None, typer.Option(help="Policy updates of each trial.", min=1)] = None,
    evaluations: Annotated[int | None, typer.Option(help="About how many evaluations of each trial.", min=1)] = None,
    episodes: Annotated[int | None, typer.Option(help="Episodes of an evaluation.", min=1)] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=V1,V2", help="Values of any parameter, such as asm_steps=0,500; repeatable."
        ),
    ] = None,
    run_name: Annotated[
        str | None, typer.Option("--name", help="Name of the results; made from the settings by default.")
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(help="Of a search: points to try, each with every seed; more of them extend it.", min=1),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(help=f"Of a search: what ends trials early, {one_of(SCHEDULERS)}; none by default."),
    ] = None,
    study_storage: Annotated[
        str | None,
        typer.Option(
            help="Of a search: database of its studies, such as postgresql://USER@HOST/NAME; a file in the storage by "
            "default.",
            envvar="SPIN_RL_STUDY_STORAGE",
            show_envvar=True,
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue a sweep with the settings it was started with.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and run nothing.")] = False,
    cpus_per_trial: Annotated[int, typer.Option(help="CPUs of each trial.", min=1)] = 1,
    gpus_per_trial: Annotated[
        float, typer.Option(help="GPUs of each trial; a fraction where several share one.", min=0)
    ] = 0,
    root: DataRoot = "data",
    storage: Storage = Path("results"),
    tracking_uri: TrackingURI = None,
) -> None:
    """Run or resume an experiment over many trials.

    Prints the plan, pretrains the models that it needs, runs the trials and reports. The same command resumes an
    interrupted sweep; so does --resume with nothing but the name.
    """
    lists = {"task": tasks, "level": levels, "seed": seeds, "algorithm": algorithms, "objective": objectives}
    single = {"preset": preset, "updates": updates, "evaluations": evaluations, "episodes": episodes}
    changes = {key: parse_values(key, text) for key, text in lists.items() if text is not None}
    changes |= {key: (value,) for key, value in single.items() if value is not None}
    changes |= parse_space(settings or ())
    plan = api.plan_sweep(
        name,
        changes=changes,
        tiny=tiny,
        resume=resume,
        name=run_name,
        points=trials,
        scheduler=scheduler,
        root=root,
        storage=storage,
        collect=collect_with_progress,
    )
    show_plan(plan, storage.absolute())
    if not dry_run:
        run = api.run_plan(
            plan,
            study_storage=study_storage,
            cpus_per_trial=cpus_per_trial,
            gpus_per_trial=gpus_per_trial,
            storage=storage,
            tracking_uri=tracking_uri,
        )
        show_run(run)


def parse_values(name: str, text: str) -> tuple[Any, ...]:
    """The values in ``v1,v2``: JSON where they are, else words."""
    try:
        values = json.loads(f"[{text}]")
    except ValueError:
        values = [parse_value(word.strip()) for word in text.split(",")]
    if not values or "" in values:
        raise UserError(f"The space is empty: {name} has no value in '{text}'. Write {name}=V1,V2.")
    return tuple(values)


def parse_space(assignments: Iterable[str]) -> Space:
    """Parameters from ``NAME=V1,V2``."""
    space = {}
    for assignment in assignments:
        name, found, text = assignment.partition("=")
        if not found:
            raise UserError(f"'{assignment}' sets nothing; write NAME=V1,V2.")
        space[name] = parse_values(name, text)
    return space


def show_plan(plan: api.SweepPlan, storage: Path) -> None:
    """Print what a plan will do and about how long it will take."""
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
        f"{trials}; {len(plan.pretrainings)} pretrainings, {steps:,} steps in all. Results: {folder}",
        soft_wrap=True,
        highlight=False,
    )


def _time_of(plan: api.SweepPlan, coming: Iterable[Mapping[str, Any]], storage: Path) -> str:
    """What is known of the time that a plan will take."""
    expected = estimate(plan, coming, storage)
    parts = {"trials": expected.trials, "pretraining": expected.pretrainings}
    known = [f"{in_words(seconds)} of {name}" for name, seconds in parts.items() if seconds]
    known += [f"{name} of a kind that was never timed here" for name, seconds in parts.items() if seconds is None]
    return f" ({', '.join(known)}; one after the other)" if known else ""
