"""RLlib's base class reads our checkpoints: ``Algorithm.from_checkpoint(folder)``, as RLlib's documentation writes it.

RLlib finds the class of a checkpoint in a pickle (class_and_ctor_args.pkl) and has no other way on the new API stack.
Our checkpoints hold none, because unpickling runs whatever code a file names. Importing ``spin_rl.algorithms.rllib``
makes the base class look for ours first; without that import it raises "checkpoint does not seem to be valid".
"""

from functools import wraps
from pathlib import Path
from typing import Any

from ray.rllib.algorithms.algorithm import Algorithm

from spin_rl.algorithms.rllib.algorithm import OfflineAlgorithm


def recognise_checkpoints() -> None:
    """Let ``Algorithm.from_checkpoint`` return the algorithm that wrote one of our checkpoints."""
    theirs = Algorithm.__dict__["from_checkpoint"].__func__
    if hasattr(theirs, "_recognises"):
        return

    @wraps(theirs)
    def from_checkpoint(cls: type[Algorithm], path: Any, *args: Any, **kwargs: Any) -> Algorithm:
        folder = Path(getattr(path, "path", path))
        if cls is Algorithm and (folder / "agent.json").is_file():
            return OfflineAlgorithm.from_checkpoint(folder)
        return theirs(cls, path, *args, **kwargs)

    from_checkpoint.__dict__["_recognises"] = True
    Algorithm.from_checkpoint = classmethod(from_checkpoint)
