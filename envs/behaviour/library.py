"""The shipped behaviour policies: weights and a card with the measured return, per task and level.

policies/<task>-<bins>/<level>.safetensors
policies/<task>-<bins>/<level>.json
"""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load, load_file, save

from spin_rl.envs.behaviour.network import DecoupledQ, EpsilonGreedy
from spin_rl.envs.behaviour.settings import ALGORITHMS, settings_from
from spin_rl.envs.catalogue import Task, nvec_of
from spin_rl.envs.rollout import rollout
from spin_rl.errors import UserError

SHIPPED = Path(__file__).parent / "policies"

MEDIUM = (0.35, 0.47, 0.60)
"""Share of the expert's reference return that a medium policy reaches: at least, at best, at most."""

EXPERT = 0.9
"""Share of the expert's reference return from which on a policy is called expert without further words."""

_SHORTLIST = 5
_SELECT_SEED, _MEASURE_SEED = 20_000_000, 30_000_000


@dataclass(frozen=True)
class PolicyCard:
    """Where a policy comes from and what it does."""

    task: str
    bins: int
    level: str
    steps: int  # environment steps of the training before this snapshot
    seed: int
    settings: dict[str, Any]  # of the training
    return_mean: float
    return_std: float
    episodes: int  # over which the return was measured, greedy
    normalized_score: float
    expert_share: float  # measured return / the expert's reference return
    digest: str  # SHA-256 of the weights file
    versions: dict[str, str]
    date: str

    @property
    def algorithm(self) -> str:
        """What it was trained with, in writing."""
        return ALGORITHMS[settings_from(self.settings).algorithm]

    @property
    def length(self) -> str:
        """Steps of the training, in writing, and whether it began with what another one had learnt."""
        return f"{self.steps:,} steps" + (" after another training's" if self.settings.get("started_from") else "")

    @property
    def share(self) -> str:
        """Of the expert's reference return, in writing: finely enough that what misses ``EXPERT`` does not look it."""
        return f"{self.expert_share:.1%}"

    @property
    def label(self) -> str:
        """The level, or what an expert really is that stays below ``EXPERT`` of the reference return."""
        if self.level == "expert" and self.expert_share < EXPERT:
            return f"best reached ({self.share} of the expert's return)"
        return self.level


def list_cards(folder: Path | None = None) -> list[PolicyCard]:
    """Cards of all policies in ``folder``, by default the shipped ones."""
    return [_read_card(path) for path in sorted((folder or SHIPPED).glob("*/*.json"))]


def load_policy(task: Task, level: str, folder: Path | None = None) -> tuple[EpsilonGreedy, PolicyCard]:
    """The policy of a task and level, greedy, and its card.

    Raises:
        UserError: there is none, or its files are damaged.
    """
    base = (folder or SHIPPED) / task.key
    card_path, weights = base / f"{level}.json", base / f"{level}.safetensors"
    if not (card_path.exists() and weights.exists()):
        there = ", ".join(f"{card.task}-{card.bins}/{card.level}" for card in list_cards(folder)) or "none"
        raise UserError(
            f"There is no {level} behaviour policy for {task.key} (there is: {there}); train one with: "
            f"spin-rl data train-behaviour {task.name} --bins {task.bins}, then: "
            f"spin-rl data ship-behaviour {task.name} --bins {task.bins}"
        )
    content, card = read_policy(weights)
    network = _network(task, card.settings)
    network.load_state_dict(load(content))
    return EpsilonGreedy(network), card


def read_policy(weights: Path) -> tuple[bytes, PolicyCard]:
    """The content of a policy's weights file, and the card that lies beside it.

    Raises:
        UserError: one of them is damaged.
    """
    card_path = weights.with_suffix(".json")
    card, content = _read_card(card_path), weights.read_bytes()
    if hashlib.sha256(content).hexdigest() != card.digest:
        raise UserError(f"{weights} is not the file that its card {card_path.name} describes; restore both.")
    return content, card


def ship(
    task: Task,
    training: Path,
    *,
    folder: Path | None = None,
    levels: tuple[str, ...] = ("medium", "expert"),
    episodes: int = 30,
    on_measured: Callable[[str], None] | None = None,
) -> list[PolicyCard]:
    """Choose snapshots of a behaviour training, measure them afresh, and write their weights and cards.

    expert is the snapshot of the best mean return; medium the one whose episodes lie nearest to 47 % of the expert's
    reference return, with a mean of 35 to 60 % of it. A mean of that size that stands for brilliant and failed episodes
    mixed is no medium policy, so its spread counts against it. The training's own curve gives a shortlist, one set of
    episodes decides, and another is measured for the card.

    Args:
        task: the problem.
        training: folder of a ``BehaviourTraining``.
        folder: where to write; the shipped policies' folder by default.
        levels: which to ship.
        episodes: how many to measure with, at least 20.
        on_measured: called with a line on each snapshot measured.

    Raises:
        UserError: not such a folder, of another task, or without a snapshot that will do.
    """
    if episodes < 20:
        raise UserError("A card needs at least 20 episodes.")
    if not (training / "curve.jsonl").exists():
        raise UserError(f"{training} holds no behaviour training; run: spin-rl data train-behaviour {task.name}")
    settings = json.loads((training / "config.json").read_text())
    if (settings.pop("task"), settings.pop("bins")) != (task.name, task.bins):
        raise UserError(f"{training} holds the training of another task than {task.key}.")
    lines = (training / "curve.jsonl").read_text().splitlines()
    curve = {int(p["step"]): (float(p["return_mean"]), float(p["return_std"])) for p in map(json.loads, lines)}

    def measure(step: int, seed: int) -> tuple[float, float]:
        network = _network(task, settings)
        network.load_state_dict(load_file(_snapshot(training, step)))
        result = rollout(task.make, EpsilonGreedy(network), episodes=episodes, seed=seed)
        mean, std = float(result.returns.mean()), float(result.returns.std())
        if on_measured:
            on_measured(f"{task.key}, step {step}: {mean:.1f} ± {std:.1f} over {episodes} episodes")
        return mean, std

    cards = []
    for level in levels:
        fits = _FITNESS[level]
        shortlist = sorted(curve, key=lambda step: fits(*curve[step], task), reverse=True)[:_SHORTLIST]
        decided = {step: fits(*measure(step, _SELECT_SEED), task) for step in shortlist}
        best = max(decided, key=lambda step: decided[step])
        mean, std = measure(best, _MEASURE_SEED)
        share = mean / task.reference.expert
        if level == "medium" and not MEDIUM[0] <= share <= MEDIUM[2]:
            raise UserError(
                f"No snapshot in {training} is a medium policy: the nearest, of step {best}, reaches {share:.0%} of "
                f"the expert's return; train with more frequent evaluations, or longer."
            )
        weights = save(load_file(_snapshot(training, best)))
        card = PolicyCard(
            task=task.name,
            bins=task.bins,
            level=level,
            steps=best,
            seed=settings["seed"],
            settings=settings,
            return_mean=mean,
            return_std=std,
            episodes=episodes,
            normalized_score=task.reference.normalize(mean),
            expert_share=share,
            digest=hashlib.sha256(weights).hexdigest(),
            versions={name: installed(name) for name in ("spin-rl", "torch", "mujoco", "dm_control")},
            date=datetime.now(UTC).date().isoformat(),
        )
        target = (folder or SHIPPED) / task.key
        target.mkdir(parents=True, exist_ok=True)
        (target / f"{level}.safetensors").write_bytes(weights)
        (target / f"{level}.json").write_text(json.dumps(asdict(card), indent=2) + "\n")
        cards.append(card)
    return cards


def _as_medium(mean: float, std: float, task: Task) -> tuple[bool, float]:
    """Whether the mean will do; minus the root mean square distance of the episodes' returns from the one wanted."""
    will_do = MEDIUM[0] <= mean / task.reference.expert <= MEDIUM[2]
    return will_do, -math.hypot(mean - MEDIUM[1] * task.reference.expert, std)


def _as_expert(mean: float, _std: float, _task: Task) -> tuple[bool, float]:
    return True, mean


_FITNESS: dict[str, Callable[[float, float, Task], tuple[bool, float]]] = {"medium": _as_medium, "expert": _as_expert}


def _network(task: Task, settings: dict[str, Any]) -> DecoupledQ:
    env = task.make()
    try:
        space: Any = env.observation_space
        return settings_from(settings).architecture.network(int(np.prod(space.shape)), nvec_of(env))
    finally:
        env.close()


def _snapshot(training: Path, step: int) -> Path:
    path = training / "snapshots" / f"{step:09d}.safetensors"
    if not path.exists():
        raise UserError(f"{path} is missing: the training's curve has this step.")
    return path


def _read_card(path: Path) -> PolicyCard:
    try:
        return PolicyCard(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); restore it.") from error
