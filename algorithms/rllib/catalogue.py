"""The methods as algorithms, by name, and how Tune gets to know them."""

from ray.tune.registry import register_trainable

from spin_rl.algorithms.rllib.algorithm import ANY_METHOD, OfflineAlgorithm
from spin_rl.algorithms.rllib.method_configs import (
    AutoregressiveConfig,
    FactoredConfig,
    FinetuneConfig,
    SaintConfig,
    SPINCachedConfig,
    SPINConfig,
    SPINDistillConfig,
)
from spin_rl.algorithms.rllib.retries import repeat_accidents_only


class SPIN(OfflineAlgorithm):
    """SPIN; see ``SPINConfig``."""

    config_class = SPINConfig


class SPINCached(OfflineAlgorithm):
    """SPIN on cached features; see ``SPINCachedConfig``."""

    config_class = SPINCachedConfig


class SPINDistill(OfflineAlgorithm):
    """SPIN with a distilled trunk; see ``SPINDistillConfig``."""

    config_class = SPINDistillConfig


class Finetune(OfflineAlgorithm):
    """SPIN with a trunk that trains; see ``FinetuneConfig``."""

    config_class = FinetuneConfig


class Saint(OfflineAlgorithm):
    """SAINT; see ``SaintConfig``."""

    config_class = SaintConfig


class Factored(OfflineAlgorithm):
    """The factored baseline; see ``FactoredConfig``."""

    config_class = FactoredConfig


class Autoregressive(OfflineAlgorithm):
    """The autoregressive baseline; see ``AutoregressiveConfig``."""

    config_class = AutoregressiveConfig


ALGORITHMS: dict[str, type[OfflineAlgorithm]] = {
    algorithm.config_class.method_name: algorithm
    for algorithm in (SPIN, SPINCached, SPINDistill, Finetune, Saint, Factored, Autoregressive)
}


def register_algorithms() -> None:
    """Register every method with Ray under its class name (``tune.Tuner("SPIN", ...)``) and its method name.

    To be called in the process that fits or restores a Tuner, which then repeats no trial that failed of itself.
    """
    repeat_accidents_only()
    for name, algorithm in ALGORITHMS.items():
        register_trainable(algorithm.__name__, algorithm)
        register_trainable(name, algorithm)
    register_trainable(ANY_METHOD, OfflineAlgorithm)
