"""Settings by name: which there are, what a trial may set, and what may be written on a command line."""

import json
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from spin_rl.algorithms.presets import Preset
from spin_rl.errors import UserError, unknown_name

SHARED_OBJECTIVE_SETTINGS = ("lr_decay", "lr_decay_updates", "gradient_clip", "precision")
"""Settings of every objective that go by the same name there."""

OBJECTIVE_SETTINGS = ("expectile", "beta", "weight_cap", "temperature", "value_samples", "threshold", "candidates")
"""Settings of one objective or some; None: its default."""

SETTINGS = (
    "method_name",
    "objective",
    "preset",
    "network",
    "lr",
    "gamma",
    "train_batch_size",
    "train_batch_size_per_learner",
    "target_rate",
    *SHARED_OBJECTIVE_SETTINGS,
    *OBJECTIVE_SETTINGS,
    "asm",
    "feature_dtype",
    "feature_memory_gib",
    "updates_per_iteration",
    "evaluate_every",
    "evaluation_episodes",
    "evaluation_sampled",
    "evaluation_overlap",
    "evaluation_num_env_runners",
    "device",
    "cuda_graph",
    "onednn",
    "num_learners",
    "seeds_per_trial",
)
"""Everything that training depends on, but for the environment, the data and the seed."""

NETWORK_SETTINGS = tuple(
    field.name for field in fields(Preset) if field.name not in ("asm", "masking", "asm_precision")
)
"""Fields of ``network`` that a trial may give by themselves."""

_WITH_OPTIONS = (
    "method_name",
    "objective",
    "preset",
    "asm",
    "updates_per_iteration",
    "evaluate_every",
    "evaluation_episodes",
)
"""Settings that commands have arguments of their own for, or work out."""

FREE_SETTINGS = tuple(name for name in SETTINGS if name not in _WITH_OPTIONS)
"""What a command line may set."""

_TEXTS = ("feature_dtype", "device", "network", "lr_decay", "precision")

TRIAL_SETTINGS = {name: name for name in (*SETTINGS, "seed")} | {
    "algorithm": "method_name",
    "environment": "env",
    "dataset": "input_",
}
"""Keys of a trial's flat dictionary, and the settings that they are."""


def split_dataset_path(path: str) -> tuple[str, str, str]:
    """(root, ``<task>-<bins>``, ``<level>-v<n>``) of a dataset's folder, which may lie at any fsspec location."""
    parts = path.rstrip("/").rsplit("/", 2)
    if len(parts) != 3 or "-v" not in parts[2]:
        raise UserError(
            f"'{path}' is not the folder of a dataset, which has the form ROOT/TASK-BINS/LEVEL-vN; "
            "'spin-rl data list' prints those that there are."
        )
    return parts[0], parts[1], parts[2]


def parse_settings(assignments: Iterable[str]) -> dict[str, Any]:
    """Settings of a trial from ``NAME=VALUE``, where a value is JSON or else a string.

    Raises:
        UserError: there is no setting of that name, or no value.
    """
    settings: dict[str, Any] = {}
    for assignment in assignments:
        name, found, text = assignment.partition("=")
        if not found:
            raise UserError(f"'{assignment}' sets nothing; write NAME=VALUE.")
        if name not in (*FREE_SETTINGS, *NETWORK_SETTINGS):
            raise unknown_name("setting", name, (*FREE_SETTINGS, *NETWORK_SETTINGS))
        try:
            settings[name] = json.loads(text)
        except ValueError:
            settings[name] = text
        if name not in _TEXTS and isinstance(settings[name], str | list | dict):
            raise UserError(f"{name} is a number, true, false or null, not '{text}'.")
    return settings
