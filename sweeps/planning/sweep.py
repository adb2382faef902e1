"""What defines a sweep: its space as data, its small size for tests, its analysis; and the plan of its grid."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spin_rl.errors import UserError
from spin_rl.sweeps.planning.builder import PlanBuilder
from spin_rl.sweeps.planning.plan import SweepPlan
from spin_rl.sweeps.planning.space import Space, check_space, points

if TYPE_CHECKING:
    from spin_rl.platform.reports.sections import Analysis

TINY: Space = {
    "seed": (0,),
    "preset": ("tiny",),
    "updates": (4,),
    "evaluations": (2,),
    "episodes": (1,),
}
"""What the tiny sizes of the shipped sweeps share: seconds on two cores."""


@dataclass(frozen=True)
class Sweep:
    """An experiment. A user's own file defines one as ``SWEEP``; ``spin-rl sweep FILE`` runs it.

    Attributes:
        name: name of its results, unless another is given.
        description: the question that it answers, as a sentence.
        space: every parameter with its values (`space.PARAMETERS`); trials are their product.
        tiny: values for a run that takes seconds, on a tiny dataset.
        one_at_a_time: sizes that are not combined: each takes its values while the others stay at the preset's.
        analysis: its own part of the report: takes the sweep's results, returns sections.
        plan_with: makes the plan of a resolved space where not every point is run, such as `search.search_plan`.
    """

    name: str
    description: str
    space: Space
    tiny: Space = field(default_factory=dict)
    one_at_a_time: tuple[str, ...] = ()
    analysis: "Analysis | None" = None
    plan_with: "Callable[[Sweep, Space, str, Path], SweepPlan] | None" = None

    def resolve(self, changes: Space, *, tiny: bool = False) -> Space:
        """The space with these changes, which take precedence over the tiny size.

        Raises:
            UserError: an unknown parameter, one without values, or values of the wrong type.
        """
        space = {**self.space, **(self.tiny if tiny else {}), **changes}
        if "asm_epochs" in changes:
            space.pop("asm_steps", None)
        if "clone_epochs" in changes:
            space.pop("clone_steps", None)
        check_space(space)
        return space

    def plan(self, space: Space, root: str, asm_root: Path) -> SweepPlan:
        """The trials of a resolved space over the datasets below ``root``, and the pretrainings that they need.

        Raises:
            UserError: a dataset does not exist, settings do not fit each other, or a parameter concerns no trial.
        """
        return (self.plan_with or grid_plan)(self, space, root, asm_root)


def grid_plan(sweep: Sweep, space: Space, root: str, asm_root: Path) -> SweepPlan:
    """A plan with a trial for every point of ``space``."""
    builder = PlanBuilder(root, asm_root)
    grid = list(points(space, sweep.one_at_a_time))
    trials = [builder.trial(point) for point in grid]
    for name, values in space.items():
        if len(values) > 1 and not any(name in point for point in grid):
            raise UserError(f"No trial takes {name}: none of the algorithms and objectives of this sweep uses it.")
    return sweep_plan(sweep, space, builder, trials)


def sweep_plan(
    sweep: Sweep,
    space: Space,
    builder: PlanBuilder,
    trials: Sequence[Mapping[str, Any]],
    search: Mapping[str, Any] | None = None,
) -> SweepPlan:
    """The plan of a sweep's trials; it has the sweep's own name only if ``space`` is the sweep's own.

    Args:
        sweep: what they are trials of.
        space: its resolved space.
        builder: made the trials.
        trials: the trials to run, or of a search those whose models have to be pretrained.
        search: what is searched over and how.
    """
    description = f"{sweep.description} {describe(space)}"
    plan = builder.plan(sweep.name, description, trials, space=space, search=search)
    return plan if space == sweep.space else plan.named_by_content(sweep.name)


def describe(space: Space) -> str:
    """What a space holds, as a sentence."""

    def listed(name: str) -> str:
        return ", ".join(map(str, space[name]))

    others = [
        f"{name} {listed(name)}"
        for name in space
        if name not in ("task", "bins", "level", "version", "algorithm", "objective", "seed", "preset")
    ]
    return (
        f"{listed('algorithm')} with {listed('objective')} on {listed('task')} ({listed('level')}), preset "
        f"{listed('preset')}, seeds {listed('seed')}; {', '.join(others)}."
    )
