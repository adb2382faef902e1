"""A sweep whose space is searched instead of run whole: its plan, its studies, one for each problem, and its scheduler.

A problem is what results are comparable within: task, level, algorithm, objective. The other parameters with more than
one value are searched over, by their place in the list of values, so that neighbours are neighbours for the sampler.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import ray
from optuna.distributions import IntDistribution
from ray.tune.experiment import Trial
from ray.tune.search import SearchAlgorithm

from spin_rl.algorithms.asm.model import TRUNK_SIZES
from spin_rl.algorithms.settings import split_dataset_path
from spin_rl.errors import UserError, unknown_name
from spin_rl.platform.asm_store.store import asm_root
from spin_rl.platform.common.json_files import write_json
from spin_rl.sweeps.planning.plan import SweepPlan
from spin_rl.sweeps.planning.space import NEEDED, PRETRAINING, Space
from spin_rl.sweeps.planning.sweep import Sweep, TrialPlanner, plan_of
from spin_rl.sweeps.running.completion import SEARCH_RECORD
from spin_rl.sweeps.running.engine import open_sweep, run_sweep
from spin_rl.sweeps.search.plan import SearchPlan
from spin_rl.sweeps.search.points import PointSearch
from spin_rl.sweeps.search.schedule import PointASHA
from spin_rl.sweeps.search.studies import study_url

SCHEDULERS = ("none", "asha")
POINTS = 20
"""Points of a search by default."""


def searched_plan(sweep: Sweep, space: Space, root: str, asm_root: Path) -> SweepPlan:
    """A plan that searches ``space``; its trials are those that need a pretraining of their own, for each seed.

    Raises:
        UserError: nothing is left to search over, or a setting does not fit another.
    """
    parameters = {name: _ordered(values) for name, values in space.items() if name not in NEEDED and len(values) > 1}
    if not parameters:
        raise UserError("The search has no parameter: give one at least two values, such as --set asm_steps=0,500.")
    planner = TrialPlanner(root, asm_root)
    fixed = {name: values[0] for name, values in space.items()}
    problems = []
    for values in product(*(space[name] for name in NEEDED if name != "seed")):
        problem = fixed | dict(zip((name for name in NEEDED if name != "seed"), values, strict=True))
        problem["version"] = planner.dataset(problem).meta.version  # a later one would be another problem
        problems.append({name: value for name, value in problem.items() if name != "seed" and name not in parameters})
    models = {name: parameters[name] for name in (*PRETRAINING, *TRUNK_SIZES) if name in parameters}
    rest = {name: fixed[name] for name in parameters if name not in models}
    trials = [
        planner.trial({**problem, **rest, **dict(zip(models, values, strict=True)), "seed": seed})
        for seed in space["seed"]
        for problem in problems
        for values in product(*models.values())
    ]
    for problem, (name, values) in product(problems, parameters.items()):
        for value in values:  # what does not fit is said before anything runs
            planner.trial({**fixed, **problem, name: value, "seed": space["seed"][0]})
    search = {"points": POINTS, "seed": 0, "scheduler": "none", "problems": problems, "parameters": parameters}
    return plan_of(sweep, space, trials, planner, {**search, "seeds": list(space["seed"])})


def _ordered(values: Sequence[Any]) -> list[Any]:
    """Numbers by size, so that neighbours are neighbours; anything else as it is given."""
    numbers = all(isinstance(value, int | float) for value in values)
    return sorted(values) if numbers else list(values)


def with_options(plan: SweepPlan, *, points: int | None = None, scheduler: str | None = None) -> SweepPlan:
    """The plan with another number of points, or another scheduler.

    Raises:
        UserError: the sweep is not one that searches, or there is no such scheduler.
    """
    given = {name: value for name, value in (("points", points), ("scheduler", scheduler)) if value is not None}
    if not given:
        return plan
    if not plan.search:
        raise UserError(f"The sweep '{plan.name}' runs its space whole; only a search has {' and '.join(given)}.")
    if scheduler is not None and scheduler not in SCHEDULERS:
        raise unknown_name("scheduler", scheduler, SCHEDULERS)
    changed = replace(plan, search={**plan.search, **given})
    other = scheduler is not None and scheduler != plan.search["scheduler"]
    return changed.named(f"{plan.name}-{scheduler}") if other else changed


class SweepSearch(SearchAlgorithm):
    """Tune's ``search_alg`` for a plan that searches: its studies in turn, so that none waits for another's end.

    Args:
        plan: what to search.
        folder: the sweep's folder.
        study_storage: address of the studies' database; a SQLite file in the sweep's storage by default.
        at_once: trials that run at the same time. With one the points are the same in every run; with more they
            depend on the order in which results come, and what each gives does not.
    """

    def __init__(self, plan: SweepPlan, folder: Path, *, study_storage: str | None = None, at_once: int = 1) -> None:
        self.plan, self.folder, self._at_once = plan, folder, at_once
        self._stack = ExitStack()
        url = study_url(study_storage, folder.parent)
        self._parts = [
            PointSearch(
                _search_plan(plan, problem, folder),
                name=plan.name,
                settings={"problem": problem, "seeds": plan.search["seeds"]},
                folder=folder,
                url=url,
                at_once=at_once,
            )
            for problem in plan.search["problems"]
        ]
        self._turn = 0

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its configuration

    def __enter__(self) -> "SweepSearch":
        with ExitStack() as stack:
            for part in self._parts:
                stack.enter_context(part)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()
        told = {part.study_name: part.plan.points for part in self._parts if part.ended}
        write_json(self.folder / SEARCH_RECORD, {"study_storage": self._parts[0].place, "complete": told})

    @property
    def complete(self) -> bool:
        """Whether every point of every problem has been tried to its end."""
        return all(part.complete for part in self._parts)

    @property
    def total_samples(self) -> int:
        return sum(part.total_samples for part in self._parts)

    def add_configurations(self, experiments: Any) -> None:
        for part in self._parts:
            part.add_configurations(experiments)

    def next_trial(self) -> Trial | None:
        if sum(part.running for part in self._parts) >= self._at_once:
            return None
        for _ in self._parts:
            part = self._parts[self._turn]
            self._turn = (self._turn + 1) % len(self._parts)
            if (trial := part.next_trial()) is not None:
                return trial
        return None

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        for part in self._parts:
            part.on_trial_complete(trial_id, result, error)

    def is_finished(self) -> bool:
        return bool(self._finished) or all(part.is_finished() for part in self._parts)


def search_sweep(
    plan: SweepPlan,
    storage: Path,
    *,
    study_storage: str | None = None,
    cpus_per_trial: int = 1,
    gpus_per_trial: float = 0,
    **options: Any,
) -> Path:
    """Run a plan that searches, or go on with it; returns its folder. Ray must be up.

    Args:
        plan: what to search.
        storage: where results lie.
        study_storage: address of the studies' database.
        cpus_per_trial: CPUs of each trial.
        gpus_per_trial: GPUs of each trial.
        **options: others of `run_sweep`.
    """
    folder = open_sweep(plan, storage)
    have = ray.cluster_resources()
    at_once = have.get("CPU", 0) // cpus_per_trial
    if gpus_per_trial:
        at_once = min(at_once, have.get("GPU", 0) // gpus_per_trial)
    with SweepSearch(plan, folder, study_storage=study_storage, at_once=max(1, int(at_once))) as search:
        if not search.complete:
            run_sweep(
                plan,
                storage,
                search=search,
                scheduler=scheduler_of(plan, folder),
                cpus_per_trial=cpus_per_trial,
                gpus_per_trial=gpus_per_trial,
                **options,
            )
    return folder


def scheduler_of(plan: SweepPlan, folder: Path) -> PointASHA | None:
    """What ends a plan's trials early, if anything is to: the first rung after a fifth of a trial's evaluations."""
    if plan.search["scheduler"] == "none":
        return None
    trial = plan.trials[0]
    interval, updates = int(trial["evaluate_every"]), int(trial["updates"])
    return PointASHA(folder, first_rung=interval * max(1, updates // interval // 5), most=updates)


def _search_plan(plan: SweepPlan, problem: Mapping[str, Any], folder: Path) -> SearchPlan:
    parameters: Mapping[str, Sequence[Any]] = plan.search["parameters"]
    root, _, _ = split_dataset_path(plan.trials[0]["dataset"])
    planner = TrialPlanner(root, asm_root(folder.parent))

    def make_trials(places: Mapping[str, int]) -> list[dict[str, Any]]:
        point = {**problem, **{name: parameters[name][place] for name, place in places.items()}}
        return [planner.trial({**point, "seed": seed}) for seed in plan.search["seeds"]]

    usual = {name: parameters[name].index(plan.space[name][0]) for name in parameters}
    longest = len(parameters.get("asm_steps", ())) - 1
    first = [{**usual, "asm_steps": place} for place in (0, longest, longest // 2)] if longest > 0 else [usual]
    return SearchPlan(
        space={name: IntDistribution(0, len(values) - 1) for name, values in parameters.items()},
        make_trials=make_trials,
        points=plan.search["points"],
        first=tuple(first),
        seed=plan.search["seed"],
        seeds=len(plan.search["seeds"]),
        values=parameters,
    )
