"""DM Control tasks with every action dimension discretised to equally spaced values.

The tasks and their reference returns are those of Beeson et al. 2024 (arXiv 2411.11088), table of tasks.
"""

import logging
import os
from functools import partial
from typing import Any

# Training renders nothing, and without a display the default back end fails on import.
os.environ.setdefault("MUJOCO_GL", "disable")

import gymnasium
import numpy as np
from dm_control import suite
from gymnasium.spaces import Box, MultiDiscrete
from numpy.typing import NDArray

from spin_rl.envs.camera import Camera
from spin_rl.envs.catalogue import ReferenceScores, Task, register

# MuJoCo warns of deprecated attributes in dm_control's own models every time one is built.
logging.getLogger("absl").setLevel(logging.ERROR)

# domain, task -> {bins: (random return, expert return)}
_REFERENCE: dict[tuple[str, str], dict[int, tuple[float, float]]] = {
    ("finger", "spin"): {3: (4.36, 853.62)},
    ("fish", "swim"): {3: (72.32, 418.58)},
    ("cheetah", "run"): {3: (5.39, 664.57)},
    ("quadruped", "walk"): {3: (121.31, 781.19), 10: (108.05, 856.08), 30: (120.85, 681.14), 50: (113.6, 683.18)},
    ("humanoid", "stand"): {3: (4.54, 711.9)},
    ("dog", "trot"): {
        3: (7.32, 724.37),
        10: (6.48, 736.95),
        30: (6.39, 768.24),
        50: (6.1, 752.58),
        75: (6.31, 803.05),
        100: (6.14, 756.86),
    },
    ("walker", "walk"): {3: (44.6, 900.3)},
    ("walker", "run"): {3: (25.7, 701.2)},
    ("quadruped", "run"): {3: (149.8, 753.4)},
}


class DiscretizedControl(gymnasium.Env[NDArray[np.float32], Any]):
    """A DM Control task with joint actions that pick one of ``bins`` values in each action dimension.

    Observation: the task's arrays flattened and concatenated in dm_control's order, float32 (S,).
    Action: int (N,), each in [0, bins). An episode is truncated after the task's 1000 steps and never terminates.
    """

    render_mode = "rgb_array"

    def __init__(self, domain: str, task: str, bins: int) -> None:
        self._env = suite.load(domain, task, task_kwargs={"random": np.random.RandomState(0)})
        spec = self._env.action_spec()
        # (N, bins): row i holds the values of sub-action i's choices
        self._values = np.linspace(spec.minimum, spec.maximum, bins, axis=1)
        self._rows = np.arange(len(self._values))
        self.action_space = MultiDiscrete([bins] * len(self._values))
        size = sum(int(np.prod(array.shape)) for array in self._env.observation_spec().values())
        self.observation_space = Box(-np.inf, np.inf, (size,), np.float32)
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": round(1 / self._env.control_timestep())}
        self._camera: Camera | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed)
        # dm_control draws the initial state from this generator alone, so gymnasium's seed determines the episode.
        self._env.task._random = np.random.RandomState(int(self.np_random.integers(2**32)))
        return self._flatten(self._env.reset().observation), {}

    def step(self, action: NDArray[np.int64]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        time_step = self._env.step(self._values[self._rows, action])
        terminated = bool(time_step.last() and time_step.discount == 0.0)
        truncated = bool(time_step.last() and not terminated)
        return self._flatten(time_step.observation), float(time_step.reward), terminated, truncated, {}

    def render(self) -> NDArray[np.uint8]:  # type: ignore[override]
        """The current state of the simulation, (360, 480, 3) RGB.

        Raises:
            UserError: this machine has no renderer.
        """
        if self._camera is None:
            self._camera = Camera(self._env.physics)
        return self._camera.picture()

    @staticmethod
    def _flatten(observation: dict[str, Any]) -> NDArray[np.float32]:
        return np.concatenate([np.ravel(array) for array in observation.values()], dtype=np.float32)

    def close(self) -> None:
        if self._camera is not None:
            self._camera.close()
            self._camera = None
        self._env.close()


for (_domain, _task), _scores in _REFERENCE.items():
    for _bins, (_random, _expert) in _scores.items():
        register(
            Task(
                name=f"{_domain}-{_task}",
                bins=_bins,
                make=partial(DiscretizedControl, _domain, _task, _bins),
                reference=ReferenceScores(_random, _expert),
                terminates=False,
            )
        )
