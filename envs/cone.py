"""CoNE, combinatorial navigation (Landers et al. 2024, arXiv 2410.21151): a grid of D dimensions and side G.

Each dimension has two binary sub-actions, forward and back, which cancel each other. The start is the origin, the goal
the opposite corner. Pits are placed at random, but never on one fixed path from start to goal.

``cone-<dimensions>x<side>-<pits>inner`` is the problem of the published tables, with side 5: pits lie in the centre and
then in cells around it, and level ``medium`` is the behaviour of the published data, 10,000 transitions of it. Their
"0 pits" have one in the centre, ``cone-8x5-1inner``; without any: ``cone-8x5-0inner``. Of 8 dimensions, 5 % are 328.
"""

import re
from collections.abc import Iterator
from functools import cached_property, lru_cache, partial
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, MultiDiscrete
from numpy.typing import NDArray

from spin_rl.envs import pictures
from spin_rl.envs.behaviour.scripted import EpsilonScripted
from spin_rl.envs.catalogue import UNKNOWN, ScriptedPolicy, Task, register_family
from spin_rl.errors import UserError

STEPS = 100
"""Minimum time limit of an episode; large grids have four times the length of their shortest path."""

_MEDIUM_EPSILON = 0.5


class Grid:
    """The pits of a problem, a function of its sizes, and a path that avoids them."""

    def __init__(self, dimensions: int, side: int, pits: int) -> None:
        if dimensions < 1 or side < 2 or pits < 0:
            raise UserError("CoNE needs at least 1 dimension, a side of at least 2 and 0 or more pits.")
        self.dimensions, self.side, self._pit_count = dimensions, side, pits
        self.goal = np.full(dimensions, side - 1)
        self.steps = max(STEPS, 4 * (side - 1))
        if pits > side**dimensions - len(self.safe_path):
            raise UserError(f"CoNE with {dimensions} dimensions and side {side} has no room for {pits} pits.")

    @cached_property
    def safe_path(self) -> list[NDArray[np.int64]]:
        """States (D,) from start to goal without a pit; each step goes forward in some of the remaining dimensions."""
        generator = np.random.default_rng((self.dimensions, self.side, 0))
        states = [np.zeros(self.dimensions, np.int64)]
        while (states[-1] < self.goal).any():
            left = np.flatnonzero(states[-1] < self.goal)
            step = generator.permutation(left)[: generator.integers(1, len(left) + 1)]
            states.append(states[-1].copy())
            states[-1][step] += 1
        return states

    @cached_property
    def pits(self) -> frozenset[bytes]:
        """States of the pits, each as the bytes of its int64 coordinates."""
        generator = np.random.default_rng((self.dimensions, self.side, self._pit_count, 1))
        free = {state.tobytes() for state in self.safe_path}
        found: set[bytes] = set()
        while len(found) < self._pit_count:
            state = generator.integers(self.side, size=self.dimensions).tobytes()
            if state not in free:
                found.add(state)
        return frozenset(found)


class InnerGrid(Grid):
    """A grid whose first pit is the centre, and whose others are drawn from the 3^D - 1 cells around it."""

    def __init__(self, dimensions: int, side: int, pits: int) -> None:
        if dimensions > _MOST_INNER or side < 5 or side % 2 == 0 or pits > 3**dimensions:
            raise UserError(
                f"CoNE with {dimensions} dimensions and side {side} has no room for {pits} inner pits: the side must "
                f"be odd and at least 5, dimensions at most {_MOST_INNER}, and 3 to their power is the number of cells."
            )
        super().__init__(dimensions, side, 0)
        self._pit_count = pits

    @cached_property
    def pits(self) -> frozenset[bytes]:
        generator = np.random.default_rng((self.dimensions, self.side, self._pit_count, 2))
        others = generator.choice(3**self.dimensions - 1, size=max(self._pit_count - 1, 0), replace=False)
        centre = self.goal // 2
        states = [centre] * min(self._pit_count, 1) + list(centre + neighbour(others, self.dimensions))
        return frozenset(state.tobytes() for state in states)


_MOST_INNER = 30
"""Dimensions of which the number of neighbours of a cell still is exact in a float64."""


def neighbour(number: NDArray[np.int64], dimensions: int) -> NDArray[np.int64]:
    """The neighbours of a cell by number (B,) in [0, 3^D - 1): offsets (B, D) of -1, 0 and 1, not all of them 0."""
    number = number + (number >= (3**dimensions - 1) // 2)  # that one would be the cell itself
    return number[:, None] // 3 ** np.arange(dimensions) % 3 - 1


shared_grid = lru_cache(maxsize=8)(Grid)
"""A ``Grid`` that all environments of one problem share."""

shared_inner_grid = lru_cache(maxsize=8)(InnerGrid)


class CoNE(gymnasium.Env[NDArray[np.float32], Any]):
    """Observation: coordinates (D,), float32. Action: int (2 D,): forward, back, forward, back, ...

    The reward is minus the Euclidean distance to the goal; 10 at the goal and, in a pit, -10 times the distance from
    start to goal, both of which terminate the episode. Truncated after ``Grid.steps`` steps.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(self, dimensions: int, side: int, pits: int = 0, *, inner: bool = False) -> None:
        self._grid = (shared_inner_grid if inner else shared_grid)(dimensions, side, pits)
        self.action_space = MultiDiscrete([2] * (2 * dimensions))
        self.observation_space = Box(0.0, side - 1.0, (dimensions,), np.float32)
        self._state = np.zeros(dimensions, np.int64)
        self._steps = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self._state, self._steps = np.zeros_like(self._state), 0
        return self._state.astype(np.float32), {}

    def step(self, action: NDArray[np.int64]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        goal = self._grid.goal
        self._state = np.clip(self._state + action[0::2] - action[1::2], 0, goal)
        self._steps += 1
        distance = float(np.linalg.norm(goal - self._state))
        fell = self._fell
        terminated = fell or distance == 0
        reward = -10.0 * float(np.linalg.norm(goal)) if fell else 10.0 if distance == 0 else -distance
        truncated = self._steps >= self._grid.steps and not terminated
        return self._state.astype(np.float32), reward, terminated, truncated, {}

    @property
    def _fell(self) -> bool:
        return self._state.astype(np.int64).tobytes() in self._grid.pits

    def render(self) -> NDArray[np.uint8]:  # type: ignore[override]
        """One bar per dimension, filled up to its coordinate; the goal is the top row. (360, 360, 3) RGB."""
        picture = pictures.Picture()
        colour = pictures.DANGER if self._fell else pictures.BODY
        side, dimensions = self._grid.side, self._grid.dimensions
        picture.box(((0, (side - 1) / side), (1, 1)), pictures.GOAL)
        for dimension, coordinate in enumerate(self._state):
            left, right = (dimension + 0.1) / dimensions, (dimension + 0.9) / dimensions
            picture.box(((left, 0), (right, (coordinate + 0.5) / side)), pictures.TRAIL)
            picture.box(((left, coordinate / side), (right, (coordinate + 1) / side)), colour)
        return picture.pixels


class Plan:
    """Follows the first path to the goal that a depth-first search finds; it tries large forward steps first."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._safe_successor = {state.tobytes(): following for state, following in pairwise(grid.safe_path)}
        self._known: dict[bytes, NDArray[np.int64]] = {}  # state -> the state to go to next

    def __call__(self, observation: NDArray[np.float32]) -> NDArray[np.int64]:
        """Joint actions (B, 2 D) for coordinates (B, D)."""
        states = observation.astype(np.int64)
        change = np.stack([self._next(state) for state in states]) - states
        return np.stack([change > 0, change < 0], axis=2).reshape(len(states), -1).astype(np.int64)

    def _next(self, state: NDArray[np.int64]) -> NDArray[np.int64]:
        if state.tobytes() not in self._known:
            self._search(state)
        return self._known[state.tobytes()]

    def _search(self, start: NDArray[np.int64]) -> None:
        """Depth first, each state once. If it finds nothing, step back towards the start, where the safe path is."""
        path, seen = [(start, self._steps(start))], {start.tobytes()}
        while path and len(seen) < max(_SEARCHED, 20 * self._grid.side):
            state, steps = path[-1]
            if state.tobytes() in self._known or (state == self._grid.goal).all():
                break
            following = next((each for each in steps if each.tobytes() not in seen), None)
            if following is None:
                path.pop()
            else:
                seen.add(following.tobytes())
                path.append((following, self._steps(following)))
        else:
            path = []
        for (state, _), (following, _) in pairwise(path):
            self._known.setdefault(state.tobytes(), following)
        self._known.setdefault(start.tobytes(), start - np.minimum(start, 1))

    def _steps(self, state: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Candidate successors: forward in all dimensions, in all but one, along the safe path, in one only."""
        left = state < self._grid.goal
        single = np.eye(len(state), dtype=bool)[left]
        moves = [left, *(left & ~single)]
        states = [state + move for move in moves]
        states += [self._safe_successor[state.tobytes()]] if state.tobytes() in self._safe_successor else []
        states += [state + move for move in single]
        return (each for each in states if (each != state).any() and each.tobytes() not in self._grid.pits)


_SEARCHED = 5000
"""Minimum limit on the states that one search visits."""


def scripted(dimensions: int, side: int, pits: int, level: str, epsilon: float) -> ScriptedPolicy:
    """The plan; at level medium, half of the sub-actions are drawn uniformly."""
    used = max(epsilon, _MEDIUM_EPSILON if level == "medium" else 0.0)
    return EpsilonScripted(Plan(shared_grid(dimensions, side, pits)), [2] * (2 * dimensions), used)


class PublishedBehaviour:
    """The behaviour of the published data: a neighbour that is drawn uniformly, or the shortest way's next step.

    The shortest way, by the distances from the cells entered to the goal, goes forward in all dimensions that are left.
    It does not avoid pits. Where a drawn neighbour lies outside the grid, the step is cut at its edge.
    """

    draws = 2

    def __init__(self, dimensions: int, side: int, epsilon: float) -> None:
        self._dimensions, self._side = dimensions, side
        self.epsilon = epsilon
        """How often it draws a neighbour."""

    def act(self, observation: NDArray[np.float32], uniforms: NDArray[np.float64]) -> NDArray[np.int64]:
        """Joint actions (B, 2 D) for coordinates (B, D) and uniforms (B, 2)."""
        drawn = neighbour((uniforms[:, 1] * (3**self._dimensions - 1)).astype(np.int64), self._dimensions)
        shortest = (observation < self._side - 1).astype(np.int64)
        change = np.where(uniforms[:, :1] < self.epsilon, drawn, shortest)
        return np.stack([change > 0, change < 0], axis=2).reshape(len(change), -1).astype(np.int64)


_PUBLISHED_EPSILON = 0.9


def inner_scripted(dimensions: int, side: int, pits: int, level: str, epsilon: float) -> ScriptedPolicy:
    """The published behaviour at level medium, at the others the plan around the pits."""
    if level == "medium":
        return PublishedBehaviour(dimensions, side, max(epsilon, _PUBLISHED_EPSILON))
    return EpsilonScripted(Plan(shared_inner_grid(dimensions, side, pits)), [2] * (2 * dimensions), epsilon)


def _build_inner(match: re.Match[str]) -> Task:
    dimensions, side, pits = (int(number) for number in match.groups())
    shared_inner_grid(dimensions, side, pits)  # validates the sizes
    sizes = (dimensions, side, pits)
    return Task(
        name=match[0],
        bins=2,
        make=partial(CoNE, *sizes, inner=True),
        reference=UNKNOWN,
        scripted=partial(inner_scripted, *sizes),
    )


def _build(match: re.Match[str]) -> Task:
    dimensions, side, pits = (int(number or 0) for number in match.groups())
    shared_grid(dimensions, side, pits)  # validates the sizes
    sizes = (dimensions, side, pits)
    return Task(
        name=match[0], bins=2, make=partial(CoNE, *sizes), reference=UNKNOWN, scripted=partial(scripted, *sizes)
    )


register_family(
    "cone-<dimensions>x<side>[-<pits>pits]", r"cone-([1-9]\d{0,2})x([1-9]\d{0,3})(?:-([1-9]\d{0,6})pits)?", _build
)
register_family(
    "cone-<dimensions>x<side>-<pits>inner", r"cone-([1-9]\d{0,2})x([1-9]\d{0,3})-(0|[1-9]\d{0,6})inner", _build_inner
)
