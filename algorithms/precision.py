"""In which precision matrix products are made: float32, TF32 on NVIDIA GPUs, or bfloat16 under autocast.

Weights, losses, targets and optimiser states are float32 in all of them, and so is acting.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from spin_rl.envs import UserError, unknown_name

PRECISIONS = ("float32", "tf32", "bfloat16")


def check_precision(precision: str, device: torch.device | str | None = None) -> None:
    """UserError where there is no such precision, or not on ``device`` (where it is known)."""
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    if precision == "tf32" and device is not None and torch.device(device).type != "cuda":
        raise UserError(
            f"precision=tf32 is a format of NVIDIA GPUs, the device is {torch.device(device).type}: "
            "use float32 or bfloat16, or train on a GPU."
        )


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """What a forward in ``precision`` is made under.

    To be entered for the forwards between two optimiser steps, never around a step: it keeps the weights that it has
    cast until it is left.
    """
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


@contextmanager
def matrix_products(precision: str) -> Iterator[None]:
    """Let float32 products be made in TF32 in here, where ``precision`` says so; left alone otherwise."""
    if precision != "tf32":
        yield
        return
    before, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        torch.backends.cudnn.allow_tf32 = cudnn
