"""An optimiser's state as flat named tensors, for files that hold tensors only (safetensors)."""

from collections.abc import Mapping

from torch import Tensor
from torch.optim import Optimizer


def optimizer_tensors(optimizer: Optimizer, prefix: str) -> dict[str, Tensor]:
    """The state by name: ``<prefix><index of the parameter>.<slot>``, such as ``optimizer.0.exp_avg``."""
    return {
        f"{prefix}{index}.{slot}": value
        for index, slots in optimizer.state_dict()["state"].items()
        for slot, value in slots.items()
    }


def load_optimizer_tensors(optimizer: Optimizer, tensors: Mapping[str, Tensor], prefix: str) -> None:
    """Put back what ``optimizer_tensors`` gave under ``prefix``; other names in ``tensors`` are left alone.

    The optimiser keeps its own hyperparameters, and has no state at all where ``tensors`` holds none of it.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(prefix):
            index, slot = name.removeprefix(prefix).split(".")
            state.setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
