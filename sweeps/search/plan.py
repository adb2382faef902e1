"""What a search of Optuna's searches over, and how many points of it are tried."""

import json
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import distribution_to_json

from spin_rl.errors import UserError
from spin_rl.sweeps.search.studies import Space, grid_of

OBJECTIVES = {"eval/normalized_score": "maximize", "time/total_seconds": "minimize"}
"""Metrics that a sweep's search weighs against each other."""

Params = Mapping[str, Any]


@dataclass(frozen=True)
class SearchPlan:
    """What is searched, and how.

    Attributes:
        space: a distribution for every parameter.
        make_trials: gives a point's trials, one for each seed, as the sweep runs them.
        points: how many points there are to be in the end; more of them continue a search.
        first: points that are tried before any that the sampler draws.
        seed: of the sampler; the same seed and the same results give the same points.
        startup: points drawn at random before the sampler learns.
        objectives: metrics of a trial's last result, each with its direction.
        seeds: trials of a point, for displays.
        values: what a parameter's numbers stand for, where they are places in a list; kept with the study for readers.
    """

    space: Space
    make_trials: Callable[[Params], Sequence[Mapping[str, Any]]]
    points: int
    first: tuple[Params, ...] = ()
    seed: int = 0
    startup: int = 10
    objectives: Mapping[str, str] = field(default_factory=lambda: dict(OBJECTIVES))
    seeds: int = 1
    values: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.space:
            raise UserError("The search has no parameter: give it one at least.")
        if self.points < 1:
            raise UserError(f"A search has one point at least, not {self.points}.")

    def settings(self) -> dict[str, Any]:
        """What makes it this search and no other; how many points it gets is left open."""
        space = {name: json.loads(distribution_to_json(self.space[name])) for name in sorted(self.space)}
        return {"space": space, "search_seed": self.seed, "objectives": dict(self.objectives)}

    def grid(self) -> list[dict[str, Any]] | None:
        """Every point there is, where there are no more than are asked for: then nothing is drawn."""
        return grid_of(self.space, self.points)

    def instead(self, number: int, known: Collection[str]) -> list[dict[str, Any]]:
        """A point drawn in the place of point ``number``, which repeats one of the ``known``; none in endless spaces.

        The sampler likes to stay with what was best. Its repetitions cost nothing and tell it nothing.
        """
        untried = [point for point in grid_of(self.space, _LARGEST) or () if key_of(point) not in known]
        return [random.Random(f"{self.seed}/{number}").choice(untried)] if untried else []


_LARGEST = 100_000
"""Points of the largest space that is listed."""


def key_of(params: Params) -> str:
    """A text that is the same for the same parameters and values."""
    return json.dumps(dict(params), sort_keys=True)
