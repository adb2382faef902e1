"""Settings of a behaviour training, and how they are read back from its folder or from a card."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from spin_rl.envs.behaviour.collectors import Collection
from spin_rl.envs.behaviour.network import Architecture
from spin_rl.envs.errors import UserError

ALGORITHMS = {"decqn": "DecQN", "sac": "SAC"}
"""What a training may learn with, and what it is called in writing."""


@dataclass(frozen=True)
class BehaviourSettings:
    """Settings of a behaviour training; a run is a function of these and the task.

    Raises:
        UserError: they contradict each other.
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
    epsilon_most: float = 0.0  # final value of the environments that explore most, others between; 0: all alike
    epsilon_steps: int = 64_000  # over which epsilon falls from 1 to its final value
    capacity: int = 1_000_000  # environment steps held in the replay memory
    evaluation_rounds: int = 2
    evaluation_episodes: int = 10
    normalize: bool = False  # observations, by the mean and standard deviation of those so far
    symlog: bool = False  # of the observations, before that
    dueling: float = 0.0  # scale of the advantages, which are learnt apart from the state's value; 0: they are not
    members: int = 1  # networks, of sac the critic's; the smallest of their values is the target
    entropy: float = 0.36  # of sac's policy, as a share of the largest: what the temperature aims at
    episode_steps: int = 0  # of the training's episodes; 0: the task's. Evaluations play whole ones
    action_repeat: int = 1  # steps that a decision of the training holds for; evaluations decide at every step
    started_from: str = ""  # digest of the weights of another training that it begins with; "": random ones
    anneal_from: int = 0  # environment step from which learning rate and epsilon fall to a tenth
    anneal_steps: int = 0  # over which they do; 0: they don't
    bfloat16: bool = True  # forward passes; about twice as fast as float32 on a CPU that has the instructions

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise UserError(f"--algorithm {self.algorithm} is none of {', '.join(ALGORITHMS)}.")
        if self.algorithm == "sac" and (self.dueling or self.epsilon_most):
            raise UserError("--dueling and --epsilon-most belong to decqn: sac has a critic, and draws its choices.")
        if self.algorithm == "sac" and not 0 < self.entropy < 1:
            raise UserError(f"--entropy {self.entropy:g} is no share between 0 and 1.")
        if self.epsilon_most and not (self.ahead and 0 < self.epsilon_final < self.epsilon_most <= 1):
            raise UserError(
                f"--epsilon-most {self.epsilon_most:g} needs a smaller --epsilon above 0 (it is "
                f"{self.epsilon_final:g}) and --ahead above 0 (it is {self.ahead})."
            )

    @property
    def architecture(self) -> Architecture:
        """Of what acts."""
        members = self.members if self.algorithm == "decqn" else 1
        return Architecture(self.width, members, self.symlog, self.dueling)

    @property
    def collection(self) -> Collection:
        """How a collector steps the environments."""
        spread = 1.0 - math.log(self.epsilon_most) / math.log(self.epsilon_final) if self.epsilon_most else 0.0
        drawn = self.algorithm == "sac"
        return Collection(self.seed, self.envs, self.group, self.architecture, self.action_repeat, spread, drawn)


def settings_of(folder: Path) -> BehaviourSettings | None:
    """Settings of the training in ``folder``; None where there is none."""
    path = folder / "config.json"
    return config_of(json.loads(path.read_text())) if path.exists() else None


def config_of(settings: Mapping[str, Any]) -> BehaviourSettings:
    """Settings as they were written to a training's folder or a card. One that is left out was the default then."""
    return BehaviourSettings(
        **{field.name: settings[field.name] for field in fields(BehaviourSettings) if field.name in settings}
    )
