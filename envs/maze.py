"""Maze: a point pushed by n binary actuators around two walls (SPEC.md, section 5).

1 +--------------------+
  |         |          |      S start, G goal. The path leads below the long wall, up along
  |    .----+ . . .    |      the tall one, over its top and down again.
  |    G    |     .    |
  |---------+     .    |
  |    S . . . . .     |
0 +--------------------+
"""

from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, MultiDiscrete
from numpy.typing import NDArray

from spin_rl.envs import pictures
from spin_rl.envs.behaviour.scripted import EpsilonScripted
from spin_rl.envs.catalogue import ReferenceScores, ScriptedPolicy, Task, register

START = (0.25, 0.1)
GOAL = ((0.25, 0.45), (0.30, 0.50))  # lower left, upper right
WALLS = (((0.0, 0.25), (0.50, 0.30)), ((0.50, 0.25), (0.55, 0.80)))
STEPS = 150
SUB_STEPS = 4
LENGTH = 0.045
SLIP = 0.1

# Measured: 1000 episodes with seed 0, of the uniformly random and of the scripted policy.
_REFERENCE: dict[int, tuple[float, float]] = {
    3: (-1.40, 99.28),
    4: (-6.18, 99.18),
    5: (-5.27, 99.38),
    6: (-6.07, 99.35),
    7: (-7.00, 99.37),
    8: (-6.79, 99.36),
    9: (-7.09, 99.38),
    10: (-7.30, 99.36),
    11: (-7.50, 99.40),
    12: (-7.50, 99.37),
    13: (-7.40, 99.40),
    14: (-7.50, 99.40),
    15: (-7.50, 99.40),
}

_MEDIUM_EPSILON = 0.88


def pushes(actuators: int) -> NDArray[np.float64]:
    """Motion of each actuator (n, 2), scaled so that the longest joint motion has norm 1.

    The longest sum of a subset of n unit vectors at equal angles is the sum of half of them: 1/sin(pi/n) for even n,
    1/(2 sin(pi/2n)) for odd n.
    """
    angles = 2 * np.pi * np.arange(actuators) / actuators
    longest = 1 / np.sin(np.pi / actuators) if actuators % 2 == 0 else 0.5 / np.sin(np.pi / (2 * actuators))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) / longest


class Maze(gymnasium.Env[NDArray[np.float32], Any]):
    """Observation: position (x, y), float32. Action: int (n,), 1 where an actuator pushes.

    Every step costs 0.05; reaching the goal pays 100 and terminates. Truncated after 150 steps.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    render_mode = "rgb_array"

    def __init__(self, actuators: int) -> None:
        self._pushes = pushes(actuators)
        self.action_space = MultiDiscrete([2] * actuators)
        self.observation_space = Box(0.0, 1.0, (2,), np.float32)
        self._position = np.array(START)
        self._steps = 0
        self._trail = [self._position]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        self._position, self._steps = np.array(START), 0
        self._trail = [self._position]
        return self._position.astype(np.float32), {}

    def step(self, action: NDArray[np.int64]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        motion = action @ self._pushes
        reached = False
        for _ in range(SUB_STEPS):
            slips = self.np_random.random() < SLIP
            moved = self._position + LENGTH * (self.np_random.random(2) / 1.415 if slips else motion)
            if _blocked(moved):
                break
            self._position = moved
            if reached := _within(moved, GOAL):
                break
        self._steps += 1
        self._trail.append(self._position)
        truncated = self._steps >= STEPS and not reached
        return self._position.astype(np.float32), 100.0 * reached - 0.05, reached, truncated, {}

    def render(self) -> NDArray[np.uint8]:  # type: ignore[override]
        """Walls, goal, the point and its trail, (360, 360, 3) RGB."""
        picture = pictures.Picture()
        picture.box(GOAL, pictures.GOAL)
        for wall in WALLS:
            picture.box(wall, pictures.WALL)
        picture.dots(self._trail, 0.006, pictures.TRAIL)
        picture.dots([self._position], 0.014, pictures.BODY)
        return picture.pixels


def _within(position: NDArray[np.float64], box: tuple[tuple[float, float], tuple[float, float]]) -> bool:
    (left, low), (right, high) = box
    return bool(left <= position[0] <= right and low <= position[1] <= high)


def _blocked(position: NDArray[np.float64]) -> bool:
    return not _within(position, ((0, 0), (1, 1))) or any(_within(position, wall) for wall in WALLS)


class Plan:
    """Moves from waypoint to waypoint, pushing with an arc of neighbouring actuators; there are n^2 such arcs."""

    def __init__(self, actuators: int) -> None:
        start, length = np.divmod(np.arange(actuators**2), actuators)
        offset = (np.arange(actuators) - start[:, None]) % actuators  # (n^2, n)
        self._arcs = (offset < length[:, None]).astype(np.int64)
        self._motions = LENGTH * self._arcs @ pushes(actuators)  # (n^2, 2) in one sub-step

    def __call__(self, observation: NDArray[np.float32]) -> NDArray[np.int64]:
        """Joint actions (B, n) for positions (B, 2)."""
        x, y = observation.T
        below, right_of, above = (x < 0.6) & (y < 0.30), (x > 0.55) & (y < 0.84), (x > 0.46) & (y >= 0.80)
        regions = [below[:, None], right_of[:, None], above[:, None]]
        target = np.select(regions, [(0.66, 0.16), (0.62, 0.9), (0.40, 0.86)], (0.275, 0.475))
        # (B, n^2, sub-steps, 2): where each arc leads, unless it slips
        reached = observation[:, None, None] + self._motions[:, None] * np.arange(1, SUB_STEPS + 1)[:, None]
        distance = np.linalg.norm(reached - target[:, None, None], axis=-1).min(-1)
        return self._arcs[distance.argmin(1)]


def scripted(actuators: int, level: str, epsilon: float) -> ScriptedPolicy:
    """The plan; at level medium, most sub-actions are drawn uniformly."""
    used = max(epsilon, _MEDIUM_EPSILON if level == "medium" else 0.0)
    return EpsilonScripted(Plan(actuators), [2] * actuators, used)


for _actuators in range(3, 16):
    register(
        Task(
            name=f"maze-{_actuators}",
            bins=2,
            make=partial(Maze, _actuators),
            reference=ReferenceScores(*_REFERENCE[_actuators]),
            scripted=partial(scripted, _actuators),
        )
    )
