"""The shipped behaviour policies: weights and a card with the measured return, per task and level.

policies/<task>-<bins>/<level>.safetensors
policies/<task>-<bins>/<level>.json
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load

from spin_rl.envs.behaviour.network import DecoupledQ, EpsilonGreedy
from spin_rl.envs.behaviour.settings import ALGORITHMS, settings_from
from spin_rl.envs.catalogue import Task, nvec_of
from spin_rl.errors import UserError

SHIPPED = Path(__file__).parent / "policies"

EXPERT = 0.9
"""Smallest share of the expert's reference return at which a policy is called expert without qualification."""


@dataclass(frozen=True)
class PolicyCard:
    """A policy's origin and its measured returns."""

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
        """The algorithm that it was trained with, for readers."""
        return ALGORITHMS[settings_from(self.settings).algorithm]

    @property
    def length(self) -> str:
        """Steps of the training, for readers, and whether it started from the weights of another training."""
        return f"{self.steps:,} steps" + (" after another training's" if self.settings.get("started_from") else "")

    @property
    def share(self) -> str:
        """``expert_share`` for readers, with enough digits to show that it misses ``EXPERT``."""
        return f"{self.expert_share:.1%}"

    @property
    def label(self) -> str:
        """The level, qualified for an expert that is below ``EXPERT``."""
        if self.level == "expert" and self.expert_share < EXPERT:
            return f"best reached ({self.share} of the expert's return)"
        return self.level


def list_cards(folder: Path | None = None) -> list[PolicyCard]:
    """Cards of all policies in ``folder``; of the shipped ones by default."""
    return [_read_card(path) for path in sorted((folder or SHIPPED).glob("*/*.json"))]


def load_policy(task: Task, level: str, folder: Path | None = None) -> tuple[EpsilonGreedy, PolicyCard]:
    """The greedy policy of a task and level, and its card.

    Raises:
        UserError: there is none, or its files are damaged.
    """
    base = (folder or SHIPPED) / task.key
    card_path, weights = base / f"{level}.json", base / f"{level}.safetensors"
    if not (card_path.exists() and weights.exists()):
        there = ", ".join(f"{card.task}-{card.bins}/{card.level}" for card in list_cards(folder)) or "none"
        raise UserError(
            f"There is no {level} behaviour policy for {task.key} (available: {there}); train one with: "
            f"spin-rl data train-behaviour {task.name} --bins {task.bins}, then: "
            f"spin-rl data ship-behaviour {task.name} --bins {task.bins}"
        )
    content, card = read_policy(weights)
    network = build_network(task, card.settings)
    network.load_state_dict(load(content))
    return EpsilonGreedy(network), card


def read_policy(weights: Path) -> tuple[bytes, PolicyCard]:
    """The content of a policy's weights file, and the card beside it.

    Raises:
        UserError: one of them is damaged.
    """
    card_path = weights.with_suffix(".json")
    card, content = _read_card(card_path), weights.read_bytes()
    if hashlib.sha256(content).hexdigest() != card.digest:
        raise UserError(f"{weights} is not the file that its card {card_path.name} describes; restore both.")
    return content, card


def build_network(task: Task, settings: dict[str, Any]) -> DecoupledQ:
    """The untrained network of a policy for ``task`` that was trained with these settings."""
    env = task.make()
    try:
        space: Any = env.observation_space
        return settings_from(settings).architecture.network(int(np.prod(space.shape)), nvec_of(env))
    finally:
        env.close()


def _read_card(path: Path) -> PolicyCard:
    try:
        return PolicyCard(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); restore it.") from error
