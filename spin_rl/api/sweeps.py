"""Sweeps: planned, run or resumed, and reported."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from spin_rl.api.running import SweepRun, run_and_report
from spin_rl.envs import get_task
from spin_rl.errors import UserError
from spin_rl.platform.asm_store.store import asm_root
from spin_rl.platform.common.ray_session import ray_session
from spin_rl.platform.datasets import open_dataset
from spin_rl.platform.datasets.collect import MadeDataset, make_dataset
from spin_rl.platform.datasets.store import DatasetRoot, absolute_root, default_root
from spin_rl.platform.results.files import find_sweep, folder_name, storage_root
from spin_rl.sweeps import quickstart as settings
from spin_rl.sweeps.planning.plan import SweepPlan, read_plan
from spin_rl.sweeps.planning.search import with_search_options
from spin_rl.sweeps.planning.sweep import Sweep
from spin_rl.sweeps.registry import get_sweep

TINY_SIZE = 2000
"""Transitions of the datasets of a tiny sweep."""

Collect = Callable[..., MadeDataset]
"""Makes a dataset as `spin_rl.platform.datasets.collect.make_dataset` does; a command's shows a bar."""


def sweep(
    sweep: str | Path | Sweep,
    *,
    changes: Mapping[str, Sequence[Any]] | None = None,
    tiny: bool = False,
    resume: bool = False,
    name: str | None = None,
    points: int | None = None,
    scheduler: str | None = None,
    study_storage: str | None = None,
    cpus_per_trial: int = 1,
    gpus_per_trial: float = 0,
    root: str | Path | None = None,
    storage: str | Path | None = None,
    tracking_uri: str | None = None,
) -> SweepRun:
    """Run or resume an experiment over many trials, and report it.

    Example: ``sweep("head-size", changes={"task": ["cheetah-run"], "seed": [0, 1]}).report.overall``

    Args:
        sweep: a shipped sweep by name, the path of a Python file that defines ``SWEEP``, or a `Sweep`; with ``resume``
            also the name that a sweep's results have.
        changes: parameters of its space with other values.
        tiny: a run in seconds; its datasets are collected where they do not exist.
        resume: continue a sweep with the settings it was started with.
        name: name of the results; made from the settings by default.
        points: of a search: points to try, each with every seed. More than before extend the search.
        scheduler: of a search: what ends trials early, none or asha.
        study_storage: of a search: address of the studies' database; a SQLite file in the storage by default.
        cpus_per_trial: CPUs of each trial, which are also its threads.
        gpus_per_trial: GPUs of each trial; a fraction where several share one.
        root: where datasets lie.
        storage: where results go.
        tracking_uri: MLflow's store; a SQLite file in the storage by default.

    Returns:
        The sweep's folder, report and trials; ``complete`` is False where a trial failed or was interrupted.

    Raises:
        UserError: there is no such sweep or dataset, settings do not fit each other, the name is taken by other
            settings, or a trial asks for more than any node has.
    """
    plan = plan_sweep(
        sweep,
        changes=changes,
        tiny=tiny,
        resume=resume,
        name=name,
        points=points,
        scheduler=scheduler,
        root=root,
        storage=storage,
    )
    return run_plan(
        plan,
        analysis=sweep.analysis if isinstance(sweep, Sweep) else None,
        study_storage=study_storage,
        cpus_per_trial=cpus_per_trial,
        gpus_per_trial=gpus_per_trial,
        storage=storage,
        tracking_uri=tracking_uri,
    )


def plan_sweep(
    sweep: str | Path | Sweep,
    *,
    changes: Mapping[str, Sequence[Any]] | None = None,
    tiny: bool = False,
    resume: bool = False,
    name: str | None = None,
    points: int | None = None,
    scheduler: str | None = None,
    root: str | Path | None = None,
    storage: str | Path | None = None,
    collect: Collect = make_dataset,
) -> SweepPlan:
    """What `sweep` would run with these arguments; ``collect`` makes the datasets of a tiny one."""
    results = storage_root(storage)
    space = {key: tuple(values) for key, values in (changes or {}).items()}
    if resume:
        if isinstance(sweep, Sweep):
            raise UserError("A sweep is resumed by its name; without resume, the same call continues it, too.")
        plan = _stored_plan(str(sweep), results, space, tiny=tiny)
    else:
        plan = _new_plan(sweep, space, absolute_root(root or default_root()), results, tiny=tiny, collect=collect)
        plan = plan.named(name) if name else plan
    return with_search_options(plan, points=points, scheduler=scheduler)


def run_plan(
    plan: SweepPlan,
    *,
    storage: str | Path | None = None,
    tracking_uri: str | None = None,
    study_storage: str | None = None,
    **options: Any,
) -> SweepRun:
    """Run or resume what `plan_sweep` gave. Arguments and result as of `sweep`."""
    return run_and_report(
        plan, storage_root(storage), tracking_uri=tracking_uri, study_storage=study_storage, **options
    )


def quickstart(
    *,
    seeds: Sequence[int] | None = None,
    updates: int | None = None,
    asm_steps: int | None = None,
    episodes: int | None = None,
    size: int | None = None,
    preset: str | None = None,
    root: str | Path | None = None,
    storage: str | Path | None = None,
    tracking_uri: str | None = None,
    collect: Collect = make_dataset,
) -> SweepRun:
    """The main experiment in minutes: a dataset, pretraining, SPIN and three baselines, a report.

    Example: ``quickstart(updates=600, asm_steps=500).report.page``

    Args:
        seeds: a trial of every method for each.
        updates: policy updates of each trial.
        asm_steps: pretraining steps of SPIN's models.
        episodes: whole episodes of an evaluation.
        size: transitions of the dataset.
        preset: sizes of the networks.
        root: where datasets lie.
        storage: where results go.
        tracking_uri: MLflow's store; a SQLite file in the storage by default.
        collect: makes the dataset.

    Raises:
        UserError: settings do not fit each other.
    """
    place, results = absolute_root(root or default_root()), storage_root(storage)
    task = get_task(settings.TASK)
    given = {
        "seeds": tuple(seeds) if seeds else None,
        "updates": updates,
        "asm_steps": asm_steps,
        "preset": preset,
        "episodes": episodes,
    }
    changes: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    collected = DatasetRoot(place).versions(task.name, task.bins, settings.LEVEL)
    with nullcontext() if collected else ray_session():  # one session for collecting and training, none for neither
        made = collect(task, settings.LEVEL, size or settings.SIZE, root=place)
        dataset = open_dataset(task.name, settings.LEVEL, root=place, version=made.metadata.version)
        plan = settings.quickstart_plan(dataset, place, asm_root(results), **changes)
        return run_and_report(plan, results, tracking_uri=tracking_uri)


def _new_plan(
    sweep: str | Path | Sweep,
    changes: Mapping[str, tuple[Any, ...]],
    root: str,
    storage: Path,
    *,
    tiny: bool,
    collect: Collect,
) -> SweepPlan:
    definition = sweep if isinstance(sweep, Sweep) else get_sweep(str(sweep))
    space = definition.resolve(changes, tiny=tiny)
    if tiny:
        root = f"{root}/tiny"  # apart from the datasets of real runs, of which the newest is the default
        for task, bins, level in product(space["task"], space["bins"], space["level"]):
            collect(get_task(task, bins), level, TINY_SIZE, root=root, workers=0)
    plan = definition.plan(space, root, asm_root(storage))
    return plan if isinstance(sweep, Sweep) else replace(plan, sweep=_source(str(sweep)))


def _source(name: str) -> str:
    """How a plan names the sweep it is one of: a shipped one's name, or a file's absolute path."""
    return str(Path(name).absolute()) if name.endswith(".py") else name


def _stored_plan(name: str, storage: Path, changes: Mapping[str, Any], *, tiny: bool) -> SweepPlan:
    """The plan of a sweep that was started: the one of this name, or the only one of this kind.

    Raises:
        UserError: there is none, more than one, or settings are given that it has already.
    """
    if changes or tiny:
        given = ", ".join([*changes, *(["tiny"] if tiny else [])])
        raise UserError(f"--resume continues with the settings that a sweep has: leave out {given}, or --resume.")
    if not (storage / folder_name(name) / "sweep.json").is_file():
        started = {path.parent.name: read_plan(path.parent) for path in sorted(storage.glob("*/plan.json"))}
        found = [folder for folder, plan in started.items() if plan and plan.sweep == _source(name)]
        if len(found) > 1:
            raise UserError(f"There are {len(found)} sweeps {name} in {storage}: resume one of {', '.join(found)}.")
        name = found[0] if found else name
    folder = find_sweep(name, storage)
    plan = read_plan(folder)
    if plan is None:
        raise UserError(f"{folder} was not made by 'spin-rl sweep': repeat the command that made it.")
    return plan
