"""The methods as RLlib offline Algorithms: a thin shell around the numerical core.

Every method of ``METHODS`` has an algorithm and a configuration here: ``SPIN`` and ``SPINConfig``, ``Factored`` and
``FactoredConfig``, ...
"""

from typing import TYPE_CHECKING, Any

from spin_rl.algorithms.rllib.algorithm import OfflineAlgorithm
from spin_rl.algorithms.rllib.classes import CLASSES, register_algorithms
from spin_rl.algorithms.rllib.config import ALGORITHMS, OfflineConfig

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...


globals().update(CLASSES)

__all__ = ["ALGORITHMS", "OfflineAlgorithm", "OfflineConfig", "register_algorithms", *CLASSES]
