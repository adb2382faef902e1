"""The methods as RLlib offline Algorithms: a thin shell around the numerical core."""

from spin_rl.algorithms.rllib.algorithm import (
    ALGORITHMS,
    SPIN,
    Autoregressive,
    Factored,
    Finetune,
    OfflineAlgorithm,
    Saint,
    SPINCached,
    SPINDistill,
    register_algorithms,
)
from spin_rl.algorithms.rllib.config import (
    AutoregressiveConfig,
    FactoredConfig,
    FinetuneConfig,
    OfflineConfig,
    SaintConfig,
    SPINCachedConfig,
    SPINConfig,
    SPINDistillConfig,
)

__all__ = [
    "ALGORITHMS",
    "SPIN",
    "Autoregressive",
    "AutoregressiveConfig",
    "Factored",
    "FactoredConfig",
    "Finetune",
    "FinetuneConfig",
    "OfflineAlgorithm",
    "OfflineConfig",
    "SPINCached",
    "SPINCachedConfig",
    "SPINConfig",
    "SPINDistill",
    "SPINDistillConfig",
    "Saint",
    "SaintConfig",
    "register_algorithms",
]
