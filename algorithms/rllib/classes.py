"""RLlib's classes of every method, made from ``METHODS``: ``SPIN`` and ``SPINConfig``, ``Factored``, ...

They are attributes of this module, so that Ray and pickle find them by their names.
"""

from typing import TYPE_CHECKING, Any

from ray.tune.registry import register_trainable

from spin_rl.algorithms.methods import METHODS, Method
from spin_rl.algorithms.rllib.algorithm import ANY_METHOD, OfflineAlgorithm
from spin_rl.algorithms.rllib.config import ALGORITHMS, OfflineConfig
from spin_rl.algorithms.rllib.recognition import recognise_checkpoints
from spin_rl.algorithms.rllib.retries import repeat_accidents_only

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...


def _algorithm_of(method: Method) -> type[OfflineAlgorithm]:
    """The algorithm of a method, with its configuration as ``config_class``."""
    about = {"__module__": __name__, "__doc__": method.description}
    config: Any = type(f"{method.class_name}Config", (OfflineConfig,), {**about, "method_name": method.name})
    return type(method.class_name, (OfflineAlgorithm,), {**about, "config_class": config})


ALGORITHMS.update({method.name: _algorithm_of(method) for method in METHODS.values()})
CLASSES: dict[str, type] = {
    made.__name__: made for algorithm in ALGORITHMS.values() for made in (algorithm, algorithm.config_class)
}
"""The algorithms and their configurations by their own names."""

globals().update(CLASSES)
recognise_checkpoints()


def register_algorithms() -> None:
    """Register every method with Ray under its class name (``tune.Tuner("SPIN", ...)``) and its method name.

    To be called in the process that fits or restores a Tuner, which then does not retry trials whose failure would
    repeat itself.
    """
    repeat_accidents_only()
    for name, algorithm in ALGORITHMS.items():
        register_trainable(algorithm.__name__, algorithm)
        register_trainable(name, algorithm)
    register_trainable(ANY_METHOD, OfflineAlgorithm)
