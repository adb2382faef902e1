"""Choosing the behaviour policies to ship among the snapshots of a training, and writing them into the library."""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save

from spin_rl.envs.behaviour.library import SHIPPED, PolicyCard, build_network
from spin_rl.envs.behaviour.network import EpsilonGreedy
from spin_rl.envs.catalogue import Task
from spin_rl.envs.rollout import rollout
from spin_rl.errors import UserError

MEDIUM = (0.35, 0.47, 0.60)
"""Share of the expert's reference return that a medium policy reaches: smallest, ideal, largest."""

_SHORTLIST = 5
_SELECT_SEED, _MEASURE_SEED = 20_000_000, 30_000_000


def ship(
    task: Task,
    training: Path,
    *,
    folder: Path | None = None,
    levels: tuple[str, ...] = ("medium", "expert"),
    episodes: int = 30,
    on_measured: Callable[[str], None] | None = None,
) -> list[PolicyCard]:
    """Choose snapshots of a behaviour training, measure their returns, and write their weights and cards.

    The expert is the snapshot with the best mean return. The medium policy is the one whose episodes' returns are
    nearest to 47 % of the expert's reference return, with a mean of 35 to 60 % of it: as a mean of that size may also
    come from a mixture of brilliant and failed episodes, the spread counts against a snapshot. The training's curve
    gives a shortlist, one set of episodes decides, and a second set gives the returns on the card.

    Args:
        task: the problem.
        training: folder of a ``BehaviourTraining``.
        folder: where to write; the folder of the shipped policies by default.
        levels: which to ship.
        episodes: number of episodes in each measurement, at least 20.
        on_measured: called with a line on each measured snapshot.

    Raises:
        UserError: the folder holds no training, or one of another task, or no suitable snapshot.
    """
    if episodes < 20:
        raise UserError("A card needs at least 20 episodes.")
    snapshots = _Snapshots.read(task, training)

    def measure(step: int, seed: int) -> _Returns:
        returns = snapshots.measure(step, episodes, seed)
        if on_measured:
            on_measured(f"{task.key}, step {step}: {returns.mean:.1f} ± {returns.std:.1f} over {episodes} episodes")
        return returns

    cards = []
    for level in levels:
        decisive = {step: measure(step, _SELECT_SEED) for step in _shortlist(snapshots.curve, level, task)}
        step = max(decisive, key=lambda step: _FITNESS[level](*decisive[step], task))
        returns = measure(step, _MEASURE_SEED)
        share = returns.mean / task.reference.expert
        if level == "medium" and not MEDIUM[0] <= share <= MEDIUM[2]:
            raise UserError(
                f"No snapshot in {training} is a medium policy: the nearest, of step {step}, reaches {share:.0%} of "
                f"the expert's return; train with more frequent evaluations, or longer."
            )
        cards.append(_write_policy(snapshots, step, level, returns, episodes, folder or SHIPPED))
    return cards


class _Returns(NamedTuple):
    """Mean and standard deviation of the returns of episodes."""

    mean: float
    std: float


@dataclass(frozen=True)
class _Snapshots:
    """The snapshots of a behaviour training, and their returns as the training measured them, by step."""

    task: Task
    folder: Path
    settings: dict[str, Any]
    curve: dict[int, _Returns]

    @classmethod
    def read(cls, task: Task, folder: Path) -> "_Snapshots":
        if not (folder / "curve.jsonl").exists():
            raise UserError(f"{folder} holds no behaviour training; run: spin-rl data train-behaviour {task.name}")
        settings = json.loads((folder / "config.json").read_text())
        if (settings.pop("task"), settings.pop("bins")) != (task.name, task.bins):
            raise UserError(f"{folder} holds the training of another task than {task.key}.")
        points = map(json.loads, (folder / "curve.jsonl").read_text().splitlines())
        curve = {int(at["step"]): _Returns(float(at["return_mean"]), float(at["return_std"])) for at in points}
        return cls(task, folder, settings, curve)

    def weights(self, step: int) -> dict[str, torch.Tensor]:
        path = self.folder / "snapshots" / f"{step:09d}.safetensors"
        if not path.exists():
            raise UserError(f"{path} is missing: the training's curve has this step.")
        return load_file(path)

    def measure(self, step: int, episodes: int, seed: int) -> _Returns:
        """The returns of the greedy policy."""
        network = build_network(self.task, self.settings)
        network.load_state_dict(self.weights(step))
        returns = rollout(self.task.make, EpsilonGreedy(network), episodes=episodes, seed=seed).returns
        return _Returns(float(returns.mean()), float(returns.std()))


def _shortlist(curve: dict[int, _Returns], level: str, task: Task) -> list[int]:
    """The steps whose snapshots fit a level best by the training's own curve."""
    return sorted(curve, key=lambda step: _FITNESS[level](*curve[step], task), reverse=True)[:_SHORTLIST]


def _write_policy(
    snapshots: _Snapshots, step: int, level: str, returns: _Returns, episodes: int, folder: Path
) -> PolicyCard:
    """Write a snapshot's weights and its card into a folder of policies."""
    task = snapshots.task
    weights = save(snapshots.weights(step))
    card = PolicyCard(
        task=task.name,
        bins=task.bins,
        level=level,
        steps=step,
        seed=snapshots.settings["seed"],
        settings=snapshots.settings,
        return_mean=returns.mean,
        return_std=returns.std,
        episodes=episodes,
        normalized_score=task.reference.normalize(returns.mean),
        expert_share=returns.mean / task.reference.expert,
        digest=hashlib.sha256(weights).hexdigest(),
        versions={name: installed(name) for name in ("spin-rl", "torch", "mujoco", "dm_control")},
        date=datetime.now(UTC).date().isoformat(),
    )
    target = folder / task.key
    target.mkdir(parents=True, exist_ok=True)
    (target / f"{level}.safetensors").write_bytes(weights)
    (target / f"{level}.json").write_text(json.dumps(asdict(card), indent=2) + "\n")
    return card


def _as_medium(mean: float, std: float, task: Task) -> tuple[bool, float]:
    """Whether the mean is in range; minus the root mean square distance of the episodes' returns from the ideal one."""
    in_range = MEDIUM[0] <= mean / task.reference.expert <= MEDIUM[2]
    return in_range, -math.hypot(mean - MEDIUM[1] * task.reference.expert, std)


def _as_expert(mean: float, _std: float, _task: Task) -> tuple[bool, float]:
    return True, mean


_FITNESS: dict[str, Callable[[float, float, Task], tuple[bool, float]]] = {"medium": _as_medium, "expert": _as_expert}
