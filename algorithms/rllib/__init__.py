"""The methods as RLlib offline Algorithms: a thin shell around the numerical core."""

from spin_rl.algorithms.rllib.algorithm import (
    ALGORITHMS,
    SPIN,
    Autoregressive,
    Factored,
    OfflineAlgorithm,
    Saint,
    register_algorithms,
)
from spin_rl.algorithms.rllib.config import (
    AutoregressiveConfig,
    FactoredConfig,
    OfflineConfig,
    SaintConfig,
    SPINConfig,
)

__all__ = [
    "ALGORITHMS",
    "SPIN",
    "Autoregressive",
    "AutoregressiveConfig",
    "Factored",
    "FactoredConfig",
    "OfflineAlgorithm",
    "OfflineConfig",
    "SPINConfig",
    "Saint",
    "SaintConfig",
    "register_algorithms",
]
