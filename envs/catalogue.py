"""The task catalogue: every problem by name, with its numbers of bins and its reference scores.

Reference returns are those of Beeson et al. 2024 (arXiv 2411.11088), the factorised DM Control benchmark.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium

from spin_rl.envs.errors import UserError, unknown_name

BINS = 3
"""Number of bins used where none is named."""


@dataclass(frozen=True)
class ReferenceScores:
    """Mean returns that anchor the normalised score."""

    random: float
    expert: float

    def normalize(self, episode_return: float) -> float:
        """Normalised score 100 (R - random)/(expert - random)."""
        return 100.0 * (episode_return - self.random) / (self.expert - self.random)


@dataclass(frozen=True)
class Task:
    """A problem at one number of bins: what is needed to name it, build it and score it."""

    name: str
    bins: int
    make: Callable[[], gymnasium.Env]
    reference: ReferenceScores

    @property
    def key(self) -> str:
        """Name with bins, used for folders: ``cheetah-run-3``."""
        return f"{self.name}-{self.bins}"

    @property
    def gym_id(self) -> str:
        """Gymnasium id: ``spin_rl/cheetah-run-3-v0``."""
        return f"spin_rl/{self.key}-v0"


_TASKS: dict[tuple[str, int], Task] = {}


def register(task: Task) -> None:
    """Add a task to the catalogue and to gymnasium's registry."""
    if (task.name, task.bins) in _TASKS:
        raise UserError(f"The task {task.key} is registered already; give yours another name.")
    _TASKS[task.name, task.bins] = task
    gymnasium.register(id=task.gym_id, entry_point=task.make)  # type: ignore[arg-type]


def tasks() -> Mapping[tuple[str, int], Task]:
    """Every task by (name, bins)."""
    return dict(_TASKS)


def get_task(name: str, bins: int = BINS) -> Task:
    """The task called ``name`` with ``bins`` choices per action dimension.

    Raises:
        UserError: no such task or number of bins; the message lists what there is.
    """
    names = sorted({known for known, _ in _TASKS})
    if name not in names:
        raise unknown_name("task", name, names)
    if (name, bins) not in _TASKS:
        known_bins = sorted(known for task, known in _TASKS if task == name)
        raise unknown_name(f"number of bins for {name}", bins, known_bins)
    return _TASKS[name, bins]


def nvec_of(env: gymnasium.Env) -> tuple[int, ...]:
    """Choices per sub-action of an environment with a ``MultiDiscrete`` action space."""
    space: Any = env.action_space
    return tuple(int(choices) for choices in space.nvec)
