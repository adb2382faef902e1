"""Plans that search their space in the place of running all of it.

A problem is what results are comparable within: task, level, algorithm, objective. The other parameters with more than
one value are searched over, by their index in the list of values, so that neighbours are neighbours for the sampler.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from spin_rl.algorithms.asm.model import TRUNK_SIZES
from spin_rl.algorithms.methods import get_method
from spin_rl.algorithms.settings import NETWORK_SETTINGS
from spin_rl.errors import UserError, unknown_name
from spin_rl.sweeps.planning.builder import PlanBuilder
from spin_rl.sweeps.planning.plan import SweepPlan
from spin_rl.sweeps.planning.space import CLONING, NEEDED, PRETRAINING, Space, objective_of
from spin_rl.sweeps.planning.sweep import Sweep, sweep_plan

SCHEDULERS = ("none", "asha")
"""What may end a search's trials early."""

POINTS = 20
"""Points of a search by default."""


def search_plan(sweep: Sweep, space: Space, root: str, asm_root: Path) -> SweepPlan:
    """A plan that searches ``space``; its trials are one for each pretraining that a point may need, for each seed.

    Raises:
        UserError: no parameter has two values, or a setting does not fit another.
    """
    parameters = {name: _ordered(values) for name, values in space.items() if name not in NEEDED and len(values) > 1}
    if not parameters:
        raise UserError("The search has no parameter: give one at least two values, such as --set asm_steps=0,500.")
    builder = PlanBuilder(root, asm_root)
    first = {name: values[0] for name, values in space.items()}
    problems = _problems(space, first, parameters, builder)
    clones = any(get_method(algorithm).uses_clone for algorithm in space["algorithm"])
    of_clones = (*CLONING, "head_width", *NETWORK_SETTINGS) if clones else ()
    models = {name: parameters[name] for name in (*PRETRAINING, *TRUNK_SIZES, *of_clones) if name in parameters}
    rest = {name: first[name] for name in parameters if name not in models}
    trials = [
        builder.trial({**problem, **rest, **dict(zip(models, values, strict=True)), "seed": seed})
        for seed in space["seed"]
        for problem in problems
        for values in product(*models.values())
    ]
    for problem, (name, values) in product(problems, parameters.items()):
        for value in values:  # a value that does not fit is refused before anything runs
            builder.trial({**first, **problem, name: value, "seed": space["seed"][0]})
    search = {"points": POINTS, "seed": 0, "scheduler": "none", "problems": problems, "parameters": parameters}
    return sweep_plan(sweep, space, builder, trials, {**search, "seeds": list(space["seed"])})


def _problems(
    space: Space, first: Mapping[str, Any], parameters: Mapping[str, Any], builder: PlanBuilder
) -> list[dict[str, Any]]:
    """The parameters of each problem that are not searched over; the version of its dataset is fixed."""
    names = [name for name in NEEDED if name != "seed"]
    problems = []
    for values in product(*(space[name] for name in names)):
        problem = {**first, **dict(zip(names, values, strict=True))}
        problem["objective"] = objective_of(problem, space)
        problem["version"] = builder.dataset(problem).meta.version  # a later version would be another problem
        fixed = {name: value for name, value in problem.items() if name != "seed" and name not in parameters}
        if fixed not in problems:
            problems.append(fixed)
    return problems


def _ordered(values: Sequence[Any]) -> list[Any]:
    """Numbers by size, so that neighbours are neighbours; anything else as it is given."""
    numbers = all(isinstance(value, int | float) for value in values)
    return sorted(values) if numbers else list(values)


def with_search_options(plan: SweepPlan, *, points: int | None = None, scheduler: str | None = None) -> SweepPlan:
    """The plan with another number of points, or another scheduler.

    Raises:
        UserError: the plan is not a search's, or there is no such scheduler.
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
