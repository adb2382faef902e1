"""Settings of a behaviour training, and how they are read back from its folder or from a card."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from spin_rl.envs.behaviour.collectors import Collection
from spin_rl.envs.behaviour.network import Architecture
from spin_rl.errors import UserError

ALGORITHMS = {"decqn": "DecQN", "sac": "SAC"}
"""What a training may learn with, and what it is called in writing."""


@dataclass(frozen=True)
class BehaviourSettings:
    """Settings of a behaviour training; a run is a function of these and the task.

    Raises:
        UserError: there is no such algorithm, or its entropy is no share.
    """

    seed: int = 0
    algorithm: str = "decqn"  # or "sac"
    envs: int = 8  # episodes of a round
    group: int = 2  # environments that decide together, with ``ahead``
    ahead: int = 0  # steps that the environments are stepped while the learner works; 0: none
    width: int = 512
    learning_rate: float = 3e-4
    batch_size: int = 256
    gamma: float = 0.99  # of a decision
    n_step: int = 3  # decisions
    target_rate: float = 0.005
    steps_per_update: int = 4
    warmup_steps: int = 8_000
    epsilon_final: float = 0.05
    epsilon_steps: int = 64_000  # over which epsilon falls from 1 to its final value
    capacity: int = 1_000_000  # environment steps held in the replay memory
    evaluation_rounds: int = 2
    evaluation_episodes: int = 10
    normalize: bool = False  # observations, by the mean and standard deviation of those so far
    symlog: bool = False  # of the observations, before that
    critics: int = 1  # of sac; the smallest of their values is the target
    entropy: float = 0.36  # of sac's policy, as a share of the largest: what the temperature aims at
    episode_steps: int = 0  # of the training's episodes; 0: the task's. Evaluations play whole ones
    started_from: str = ""  # digest of the weights of another training that it begins with; "": random ones
    anneal_from: int = 0  # environment step from which learning rate and epsilon fall to a tenth
    anneal_steps: int = 0  # over which they do; 0: they don't
    bfloat16: bool = True  # forward passes; about twice as fast as float32 on a CPU that has the instructions

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise UserError(f"--algorithm {self.algorithm} is none of {', '.join(ALGORITHMS)}.")
        if self.algorithm == "sac" and not 0 < self.entropy < 1:
            raise UserError(f"--entropy {self.entropy:g} is no share between 0 and 1.")

    @property
    def architecture(self) -> Architecture:
        """Of what acts."""
        return Architecture(self.width, self.symlog)

    @property
    def collection(self) -> Collection:
        """How a collector steps the environments."""
        return Collection(self.seed, self.envs, self.group, self.architecture, sampled=self.algorithm == "sac")


def read_settings(folder: Path) -> BehaviourSettings | None:
    """Settings of the training in ``folder``; None if there is none."""
    path = folder / "config.json"
    return settings_from(json.loads(path.read_text())) if path.exists() else None


def settings_from(settings: Mapping[str, Any]) -> BehaviourSettings:
    """Settings written to a training's folder or a policy's card; missing ones, in older cards, are the defaults."""
    return BehaviourSettings(
        **{field.name: settings[field.name] for field in fields(BehaviourSettings) if field.name in settings}
    )
