"""Flat trials: the settings that vary together between the trials of a sweep, by name, and what describes a trial."""

from collections.abc import Mapping
from typing import Any

from spin_rl.algorithms.asm.model import TRUNK_SIZES
from spin_rl.algorithms.presets import Preset
from spin_rl.algorithms.settings.checks import check_settings
from spin_rl.algorithms.settings.names import NETWORK_SETTINGS, OBJECTIVE_SETTINGS, SETTINGS
from spin_rl.algorithms.settings.training import TrainingSettings
from spin_rl.errors import unknown_name

TRIAL_SETTINGS: Mapping[str, str] = {name: name for name in (*SETTINGS, "seed")} | {
    "algorithm": "method_name",
    "environment": "env",
    "dataset": "input_",
}
"""Keys of a trial that set something, and the settings that they are."""

DESCRIPTIONS = (
    "label",
    "task",
    "bins",
    "level",
    "dataset_digest",
    "updates",  # the budget
    "asm_steps",
    "asm_epochs",
    "asm_objective",
    "asm_masking",
    "asm_precision",
    "clone_steps",
    "clone_epochs",
    *TRUNK_SIZES,  # sizes of the networks on action structure; what sets them is ``network``
    "head_width",
)
"""Keys of a trial that only describe it, for reports and groupings of results."""


def settings_of_trial(trial: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a trial sets: settings by their own names, and fields of ``network`` that it gives by themselves.

    Raises:
        UserError: a key is neither a setting nor one of ``DESCRIPTIONS``.
    """
    known = (*TRIAL_SETTINGS, *NETWORK_SETTINGS, *DESCRIPTIONS)
    for name in trial:
        if name not in known:
            raise unknown_name("setting of a trial", name, known)
    settings = {TRIAL_SETTINGS[name]: value for name, value in trial.items() if name in TRIAL_SETTINGS}
    return settings, {name: trial[name] for name in NETWORK_SETTINGS if name in trial}


def preset_of_trial(trial: Mapping[str, Any]) -> Preset:
    """The preset of a trial with the sizes that the trial changes; UserError where it names one that there is not."""
    settings, network = settings_of_trial(trial)
    return TrainingSettings(
        preset=settings["preset"], network={**settings.get("network", {}), **network}
    ).resolved_preset()


def check_trial(trial: Mapping[str, Any]) -> None:
    """UserError where a trial has an unknown key, or settings that do not fit each other.

    Nothing that it names needs to be there.
    """
    settings, network = settings_of_trial(trial)
    overrides = {name: settings.pop(name) for name in OBJECTIVE_SETTINGS if name in settings}
    check_settings(
        TrainingSettings(
            **{**settings, "network": {**settings.get("network", {}), **network}},
            objective_overrides={name: value for name, value in overrides.items() if value is not None},
            trial=trial,
        )
    )
