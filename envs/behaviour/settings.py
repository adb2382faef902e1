"""Settings of a behaviour training, and how they are read back from its folder or from a card."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from spin_rl.envs.behaviour.collectors import Collection
from spin_rl.envs.behaviour.network import Architecture
from spin_rl.errors import UserError, unknown_name

ALGORITHMS = {"decqn": "DecQN", "sac": "SAC"}
"""What a training may learn with, and what it is called in writing."""


def _setting(default: Any, help_: str, *, least: float | None = None, most: float | None = None) -> Any:
    """A field that ``--set`` takes: its default, a line on it, and its range, both ends included."""
    return field(default=default, metadata={"help": help_, "least": least, "most": most})


@dataclass(frozen=True)
class BehaviourSettings:
    """Settings of a behaviour training; a run is a function of these and the task.

    Raises:
        UserError: there is no such algorithm, or its entropy is no share.
    """

    seed: int = 0
    algorithm: str = "decqn"  # or "sac"
    envs: int = _setting(8, "environments, a multiple of group", least=1)
    group: int = _setting(2, "environments that share a forward pass", least=1)
    ahead: int = _setting(0, "steps taken while the learner works; 0: none", least=0)
    width: int = _setting(512, "units of each hidden layer", least=1)
    learning_rate: float = _setting(3e-4, "of Adam", least=0)
    batch_size: int = _setting(256, "decisions of an update", least=1)
    gamma: float = _setting(0.99, "discount of a decision", least=0, most=1)
    n_step: int = _setting(3, "decisions whose rewards a return sums", least=1)
    target_rate: float = _setting(0.005, "Polyak rate of the target network, per update", least=0, most=1)
    steps_per_update: int = _setting(4, "environment steps per update", least=1)
    warmup_steps: int = _setting(8_000, "environment steps before the first update", least=1)
    epsilon_final: float = _setting(0.05, "decqn: exploration of a sub-action at the end", least=0, most=1)
    epsilon_steps: int = _setting(64_000, "decqn: steps over which epsilon falls from 1", least=1)
    capacity: int = _setting(1_000_000, "environment steps that the replay memory holds", least=1)
    evaluation_rounds: int = _setting(2, "episodes of each environment between evaluations", least=1)
    evaluation_episodes: int = _setting(10, "episodes of an evaluation", least=1)
    normalize: bool = _setting(False, "standardise observations by those so far")
    symlog: bool = _setting(False, "take the symmetric logarithm of observations")
    critics: int = _setting(1, "sac: critics; the smallest value is the target", least=1)
    entropy: float = _setting(0.36, "sac: target entropy, as a share of the largest")
    episode_steps: int = _setting(0, "length of training episodes; 0: the task's", least=0)
    started_from: str = ""  # digest of the weights of another training that it begins with; "": random ones
    anneal_from: int = 0  # environment step from which learning rate and epsilon fall to a tenth
    anneal_steps: int = 0  # over which they do; 0: they don't
    bfloat16: bool = _setting(True, "forward passes in bfloat16")

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise UserError(f"--algorithm {self.algorithm} is none of {', '.join(ALGORITHMS)}.")
        if self.algorithm == "sac" and not 0 < self.entropy < 1:
            raise UserError(f"entropy={self.entropy:g} is no share between 0 and 1.")

    @property
    def architecture(self) -> Architecture:
        """Of what acts."""
        return Architecture(self.width, self.symlog)

    @property
    def collection(self) -> Collection:
        """How a collector steps the environments."""
        return Collection(self.seed, self.envs, self.group, self.architecture, sampled=self.algorithm == "sac")


NEW_TRAINING = BehaviourSettings(ahead=20, normalize=True)
"""What a training starts with where nothing else is asked for. The class's defaults differ: they are those of the first
trainings, whose files lack the newer settings."""

SETTABLE = {one.name: one for one in fields(BehaviourSettings) if one.metadata}
"""The settings that ``--set`` takes; the others have options of their own, or follow from them."""


def parse_settings(assignments: Iterable[str]) -> dict[str, Any]:
    """Settings from ``NAME=VALUE``, with the types of their fields.

    Raises:
        UserError: no such setting, or a value of another type or out of range.
    """
    settings = {}
    for assignment in assignments:
        name, found, text = assignment.partition("=")
        if not found:
            raise UserError(f"'{assignment}' sets nothing; write NAME=VALUE.")
        if name not in SETTABLE:
            raise unknown_name("setting", name, SETTABLE)
        settings[name] = _parse(name, text)
    return settings


def _parse(name: str, text: str) -> Any:
    kind, limits = type(getattr(NEW_TRAINING, name)), SETTABLE[name].metadata
    if kind is bool:
        if text not in ("true", "false"):
            raise UserError(f"{name} is true or false, not '{text}'.")
        return text == "true"
    try:
        value = kind(text)
    except ValueError:
        raise UserError(f"{name} is a {'whole ' if kind is int else ''}number, not '{text}'.") from None
    least, most = limits["least"], limits["most"]
    if not (least is None or value >= least) or not (most is None or value <= most):
        span = f"at least {least:g}" if most is None else f"between {least:g} and {most:g}"
        raise UserError(f"{name} is {span}, not {text}.")
    return value


def describe_settings() -> list[str]:
    """A line on each setting: ``NAME=DEFAULT`` of a new training, and what it is."""
    given = [f"{name}={json.dumps(getattr(NEW_TRAINING, name))}" for name in SETTABLE]
    width = max(map(len, given)) + 2
    return [f"{text:<{width}}{one.metadata['help']}" for text, one in zip(given, SETTABLE.values(), strict=True)]


def read_settings(folder: Path) -> BehaviourSettings | None:
    """Settings of the training in ``folder``; None if there is none."""
    path = folder / "config.json"
    return settings_from(json.loads(path.read_text())) if path.exists() else None


def settings_from(settings: Mapping[str, Any]) -> BehaviourSettings:
    """Settings written to a training's folder or a policy's card; missing ones, in older cards, are the defaults."""
    return BehaviourSettings(
        **{field.name: settings[field.name] for field in fields(BehaviourSettings) if field.name in settings}
    )
