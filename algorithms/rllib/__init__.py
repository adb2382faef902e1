"""The methods as RLlib offline Algorithms: a thin shell around the numerical core."""

from spin_rl.algorithms.rllib.algorithm import OfflineAlgorithm
from spin_rl.algorithms.rllib.catalogue import (
    ALGORITHMS,
    SPIN,
    Autoregressive,
    Factored,
    Finetune,
    Saint,
    SPINCached,
    SPINDistill,
    register_algorithms,
)
from spin_rl.algorithms.rllib.config import OfflineConfig
from spin_rl.algorithms.rllib.method_configs import (
    AutoregressiveConfig,
    FactoredConfig,
    FinetuneConfig,
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
