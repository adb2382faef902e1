"""A trivial trainable that reports the contract's metrics, and the real Tune run that the tracking tests look at."""

import json
import math
from pathlib import Path
from typing import Any

from ray import tune

from spin_rl.platform.common.json_files import write_json
from spin_rl.platform.results.files import MetricsFile

SPEED = {"spin": 40.0, "factored": 900.0}
PRETRAIN = {"spin": 30.0, "factored": 0.0}

METHODS = {
    "spin": {"label": "SPIN", "color": "#0072B2", "line": "-", "marker": "o"},
    "spin-cached": {"label": "SPIN-Cached", "color": "#CC79A7", "line": [0, [3, 1]], "marker": "P"},
    "saint": {"label": "SAINT", "color": "#D55E00", "line": [0, [5, 1.5]], "marker": "s"},
    "factored": {"label": "Factored", "color": "#444444", "line": [0, [1.2, 1.2]], "marker": "^"},
}
"""How reports show methods, as a sweep's record has it."""


def describe(trial: Any) -> dict[str, Any]:
    config = {name: value for name, value in trial.config.items() if name not in ("while", "fails_at")}
    return {**config, "task": "cheetah-run", "bins": 3, "level": "medium-expert", "objective": "iql"}


def curve(algorithm: str, seed: int, updates: int) -> float:
    speed = 300 if algorithm == "spin" else 1500
    return 600 * (1 - math.exp(-updates / speed)) + 5 * seed


class Trivial(tune.Trainable):
    """Learns nothing; its `updates` grow by 100 an iteration, and it evaluates every second one."""

    def setup(self, config: dict[str, Any]) -> None:
        self.updates = -100
        self.evaluated = 0

    def step(self) -> dict[str, Any]:
        config = self.config
        self.updates += 100
        if config.get("fails_at") == self.updates and Path(config["while"]).exists():
            raise ValueError("the reward is not a number: größer")
        if self.updates % 200 == 0:
            self.evaluated = self.updates
        algorithm = config["algorithm"]
        seconds = self.updates / SPEED[algorithm]
        return {
            "updates": self.updates,
            "eval": {
                "updates": self.evaluated,
                "return_mean": curve(algorithm, config["seed"], self.evaluated),
                "return_std": 20.0,
                "normalized_score": curve(algorithm, config["seed"], self.evaluated) / 6.6,
            },
            "train": {"critic_loss": 1.0 / (1 + self.updates), "actor_loss": math.nan},
            "time": {
                "pretrain_seconds": PRETRAIN[algorithm],
                "train_seconds": seconds,
                "total_seconds": seconds + PRETRAIN[algorithm],
            },
            "perf": {"updates_per_second": SPEED[algorithm]},
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        state = {"updates": self.updates, "evaluated": self.evaluated}
        Path(checkpoint_dir, "state.json").write_text(json.dumps(state))

    def load_checkpoint(self, checkpoint: str) -> None:
        self.__dict__ |= json.loads(Path(checkpoint, "state.json").read_text())


def write_trial(folder: Path, trial_id: str, params: dict[str, Any], **record: Any) -> None:
    """A trial's files as a finished trial of `Trivial` leaves them, without running one."""
    trial = {"trial_id": trial_id, "params": params, "state": "finished", "error": None, "started": 1e9, "ended": 2e9}
    write_json(folder / "trials" / trial_id / "trial.json", trial | record)
    file = MetricsFile(folder / "trials" / trial_id / "metrics.jsonl")
    algorithm = params["algorithm"]
    for updates in range(0, 1001, 100):
        evaluated = updates // 200 * 200
        value = curve(algorithm, params["seed"], evaluated)
        file.append(
            {
                "updates": updates,
                "timestamp": 1e9 + updates,
                "eval/updates": evaluated,
                "eval/return_mean": value,
                "eval/normalized_score": value / 6.6,
                "time/pretrain_seconds": PRETRAIN[algorithm],
                "time/train_seconds": updates / SPEED[algorithm],
                "perf/updates_per_second": SPEED[algorithm],
                "train/critic_loss": 1 / (1 + updates),
            }
        )


def params(algorithm: str, seed: int, **more: Any) -> dict[str, Any]:
    """Parameters of a trial in the one group of these tests."""
    task = {"task": "cheetah-run", "bins": 3, "level": "medium-expert", "objective": "iql"}
    return {"algorithm": algorithm, "seed": seed, "updates": 1000, **task, **more}
