"""The task catalogue: every problem by name and number of bins, with its reference scores.

Reference returns are those of Beeson et al. 2024 (arXiv 2411.11088), the factorised DM Control benchmark.
"""

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Protocol

import gymnasium

from spin_rl.envs.rollout import BatchPolicy
from spin_rl.errors import UserError, unknown_name

BINS = 3
"""Default number of bins."""


@dataclass(frozen=True)
class ReferenceScores:
    """Mean returns that anchor the normalised score; if they are unknown, the score is the return itself."""

    random: float
    expert: float
    known: bool = True

    def normalize(self, episode_return: float) -> float:
        """Normalised score 100 (R - random)/(expert - random) of the return R."""
        return 100.0 * (episode_return - self.random) / (self.expert - self.random)


class ScriptedPolicy(BatchPolicy, Protocol):
    """A policy that follows a plan, except for a fraction of its sub-actions."""

    @property
    def epsilon(self) -> float:
        """Fraction of sub-actions that are drawn uniformly instead."""


UNKNOWN = ReferenceScores(0.0, 100.0, known=False)
"""For a task without measured random and expert returns."""


@dataclass(frozen=True)
class Task:
    """A problem with a given number of bins: how to name it, build it and score it."""

    name: str
    bins: int
    make: Callable[[], gymnasium.Env]
    reference: ReferenceScores
    scripted: Callable[[str, float], ScriptedPolicy] | None = None
    """Builds the behaviour policy for (level, epsilon), for tasks that need no trained one."""
    terminates: bool = True
    """False: episodes end at the time limit only, and data that say otherwise are wrong."""

    @property
    def key(self) -> str:
        """Name with bins, used for folders: ``cheetah-run-3``."""
        return f"{self.name}-{self.bins}"

    @property
    def gym_id(self) -> str:
        """Gymnasium id: ``spin_rl/cheetah-run-3-v0``."""
        return f"spin_rl/{self.key}-v0"


_TASKS: dict[tuple[str, int], Task] = {}
_FAMILIES: dict[str, tuple[re.Pattern[str], Callable[[re.Match[str]], Task]]] = {}
_ENTRY_POINTS = "spin_rl.tasks"


def register(task: Task) -> None:
    """Add a task to the catalogue and to gymnasium's registry."""
    if (task.name, task.bins) in _TASKS:
        raise UserError(f"The task {task.key} is already registered; choose another name for yours.")
    _TASKS[task.name, task.bins] = task
    gymnasium.register(id=task.gym_id, entry_point=task.make)  # type: ignore[arg-type]


def register_family(shown: str, pattern: str, build: Callable[[re.Match[str]], Task]) -> None:
    """Add tasks that are built on demand: any name that ``pattern`` matches, listed as ``shown``."""
    _FAMILIES[shown] = re.compile(pattern), build


@cache
def _load_entry_points() -> None:
    """Register the tasks of installed packages, once; a package that fails is skipped with a warning."""
    for entry_point in entry_points(group=_ENTRY_POINTS):
        try:
            for task in entry_point.load()():
                register(task)
        except Exception as error:
            warnings.warn(f"The tasks of {entry_point.value} are skipped: {error!r}", stacklevel=2)


def tasks() -> Mapping[tuple[str, int], Task]:
    """Every task by (name, bins), those of installed packages (entry point ``spin_rl.tasks``) included."""
    _load_entry_points()
    return dict(_TASKS)


def is_of_a_family(task: Task) -> bool:
    """Whether the task belongs to a family of tasks that are built on demand."""
    return any(pattern.fullmatch(task.name) for pattern, _ in _FAMILIES.values())


def get_task(name: str, bins: int = BINS) -> Task:
    """The task called ``name`` with ``bins`` choices per action dimension.

    Raises:
        UserError: no such task or number of bins; the message lists the known ones.
    """
    _load_entry_points()
    names = {known for known, _ in _TASKS}
    if name not in names:
        for pattern, build in _FAMILIES.values():
            if match := pattern.fullmatch(name):
                register(build(match))
                break
        else:
            raise unknown_name("task", name, [*sorted(names), *sorted(_FAMILIES)])
    known_bins = sorted(known for task, known in _TASKS if task == name)
    if bins not in known_bins:
        raise unknown_name(f"number of bins for {name}", bins, known_bins)
    return _TASKS[name, bins]


def nvec_of(env: gymnasium.Env) -> tuple[int, ...]:
    """Choices per sub-action (N,) of an environment with a ``MultiDiscrete`` action space."""
    space: Any = env.action_space
    return tuple(int(choices) for choices in space.nvec)
