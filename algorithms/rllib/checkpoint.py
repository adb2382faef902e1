"""Checkpoints of an algorithm: tensors as safetensors, everything else as JSON, so that reading one runs no code.

settings.json                   the configuration (``OfflineConfig.plain``)
agent.json, learner.safetensors networks, optimisers and random state of the first seed
seed<n>/                        the same two files of each further seed that is trained at once
progress.json                   written last: what has been reported, and the digests of the other files
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from spin_rl.algorithms.methods import get_method
from spin_rl.algorithms.rllib.ahead import State
from spin_rl.algorithms.rllib.recovery import RECORD, digests_of
from spin_rl.algorithms.training.agent import AgentSpec
from spin_rl.algorithms.training.checkpoints import save_agent_spec
from spin_rl.errors import UserError


@dataclass
class Progress:
    """What an algorithm has reported. Lists have an entry for each seed."""

    started: bool = False
    updates: int = 0
    evaluation: list[dict[str, float]] = field(default_factory=list)
    losses: list[dict[str, float]] = field(default_factory=list)
    preparation_seconds: float = 0.0
    train_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    updates_per_second: float = 0.0


def write_checkpoint(
    folder: Path, settings: Mapping[str, Any], specs: Sequence[AgentSpec], states: Sequence[State], progress: Progress
) -> None:
    """Write a checkpoint into ``folder``.

    Args:
        folder: made where it is missing; an older checkpoint in it is replaced.
        settings: of the configuration.
        specs: what each seed's agent is built from.
        states: of each seed.
        progress: of the algorithm.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).unlink(missing_ok=True)  # while others are written over, the folder holds no checkpoint
    (folder / "settings.json").write_text(json.dumps(settings, indent=2))
    for place, spec, (tensors, _) in zip(_places(folder, [s.seed for s in specs]), specs, states, strict=True):
        place.mkdir(exist_ok=True)
        save_file(tensors, place / "learner.safetensors")
        save_agent_spec(spec, place)
    record = {"agent": states[0][1], **asdict(progress), "files": digests_of(folder)}
    (folder / RECORD).write_text(json.dumps(record))


def read_checkpoint(folder: Path, seeds: Sequence[int]) -> tuple[list[State], Progress]:
    """The state of each of ``seeds`` and the progress in a checkpoint; UserError where it cannot be read."""
    try:
        tensors = [load_file(place / "learner.safetensors") for place in _places(folder, seeds)]
        record = json.loads((folder / RECORD).read_text())
        progress = Progress(**{field.name: record[field.name] for field in fields(Progress) if field.name in record})
        return [(of_seed, record["agent"]) for of_seed in tensors], progress
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise _unreadable(folder, error) from error


def read_settings(folder: Path) -> dict[str, Any]:
    """The configuration in a checkpoint; UserError where it cannot be read."""
    try:
        settings: dict[str, Any] = json.loads((folder / "settings.json").read_text())
        get_method(settings["method_name"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _unreadable(folder, error) from error
    return settings


def _places(folder: Path, seeds: Sequence[int]) -> list[Path]:
    """Where a checkpoint in ``folder`` holds each seed's files; the first seed's policy is the checkpoint's."""
    return [folder, *(folder / f"seed{seed}" for seed in seeds[1:])]


def _unreadable(folder: Path, error: Exception) -> UserError:
    return UserError(f"{folder} is not a checkpoint that can be read ({error}).")
