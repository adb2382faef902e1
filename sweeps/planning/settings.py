"""Settings that a trial may have, taken from the algorithms in this one place."""

from spin_rl.algorithms.rllib.config import (
    FREE_SETTINGS,
    NETWORK_SETTINGS,
    check_trial,
    parse_settings,
    split_dataset_path,
)

__all__ = ["FREE_SETTINGS", "NETWORK_SETTINGS", "check_trial", "parse_settings", "split_dataset_path"]
