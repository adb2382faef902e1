"""The settings of a training, without Ray: names, defaults and help, flat trials, and what does not fit together."""

from spin_rl.algorithms.settings.checks import check_settings
from spin_rl.algorithms.settings.names import (
    FREE_SETTINGS,
    HELP,
    NETWORK_SETTINGS,
    OBJECTIVE_SETTINGS,
    SETTINGS,
    parse_settings,
)
from spin_rl.algorithms.settings.training import TrainingSettings, split_dataset_path
from spin_rl.algorithms.settings.trial import (
    DESCRIPTIONS,
    TRIAL_SETTINGS,
    check_trial,
    preset_of_trial,
    settings_of_trial,
)

__all__ = [
    "DESCRIPTIONS",
    "FREE_SETTINGS",
    "HELP",
    "NETWORK_SETTINGS",
    "OBJECTIVE_SETTINGS",
    "SETTINGS",
    "TRIAL_SETTINGS",
    "TrainingSettings",
    "check_settings",
    "check_trial",
    "parse_settings",
    "preset_of_trial",
    "settings_of_trial",
    "split_dataset_path",
]
