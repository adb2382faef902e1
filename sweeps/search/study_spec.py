"""What one study searches over, with which metrics and how many points."""

import json
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.distributions import distribution_to_json

from spin_rl.errors import UserError
from spin_rl.sweeps.search.studies import SearchSpace, grid_of

SEARCH_METRICS = {"eval/normalized_score": "maximize", "time/total_seconds": "minimize"}
"""The metrics of a sweep's search, each with its direction."""

Params = Mapping[str, Any]


@dataclass(frozen=True)
class StudySpec:
    """A study: its space, its metrics and its budget.

    Attributes:
        space: a distribution for every parameter.
        make_trials: gives a point's trials, one for each seed, as the sweep runs them.
        points: the number of points in the end; a search is extended by a larger number.
        first: points that are tried before any that the sampler draws.
        seed: of the sampler; the same seed and the same results give the same points.
        startup: points drawn at random before the sampler learns.
        metrics: names in a trial's last result, each with its direction.
        seeds: trials of a point, for displays.
        values: the values that integers of a parameter are indices of; kept with the study for its readers.
    """

    space: SearchSpace
    make_trials: Callable[[Params], Sequence[Mapping[str, Any]]]
    points: int
    first: tuple[Params, ...] = ()
    seed: int = 0
    startup: int = 10
    metrics: Mapping[str, str] = field(default_factory=lambda: dict(SEARCH_METRICS))
    seeds: int = 1
    values: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.space:
            raise UserError("The search has no parameter: give it one at least.")
        if self.points < 1:
            raise UserError(f"A search has one point at least, not {self.points}.")

    def identity(self) -> dict[str, Any]:
        """What makes it this study; the number of points is left out, as a search can be extended."""
        space = {name: json.loads(distribution_to_json(self.space[name])) for name in sorted(self.space)}
        return {"space": space, "search_seed": self.seed, "objectives": dict(self.metrics)}

    def grid(self) -> list[dict[str, Any]] | None:
        """Every point of the space if there are at most ``points``: then nothing is drawn. Otherwise None."""
        return grid_of(self.space, self.points)

    def replacement(self, number: int, known: Collection[str]) -> list[dict[str, Any]]:
        """A random new point for point ``number``, which repeats one of the ``known``; none if the space is infinite.

        The sampler tends to stay with the best point. Repetitions are not run and teach it nothing.
        """
        untried = [point for point in grid_of(self.space, _LARGEST) or () if key_of(point) not in known]
        return [random.Random(f"{self.seed}/{number}").choice(untried)] if untried else []


_LARGEST = 100_000
"""Points of the largest space that is listed."""


def key_of(params: Params) -> str:
    """A text that is the same for the same parameters and values."""
    return json.dumps(dict(params), sort_keys=True)
