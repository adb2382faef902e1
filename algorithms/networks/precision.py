"""In which precision matrix products are made: float32, TF32 on NVIDIA GPUs, or bfloat16 under autocast.

Weights, losses, targets and optimiser states are float32 in all of them, and so is acting.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache

import torch

from spin_rl.errors import UserError, unknown_name

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
def matrix_products(precision: str, *, onednn: bool = False) -> Iterator[None]:
    """How float32 matrix products are made in here.

    Args:
        precision: ``tf32`` makes them in TF32 on a GPU; others leave them alone.
        onednn: on a CPU, let oneDNN make them in MKL's place, which does without AVX-512 on AMD's processors.
    """
    chosen = "high" if precision == "tf32" else "medium" if onednn else None
    if chosen is None:
        yield
        return
    before, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision(chosen)
    torch.backends.cudnn.allow_tf32 = cudnn or precision == "tf32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        torch.backends.cudnn.allow_tf32 = cudnn


@cache
def onednn_keeps_float32() -> bool:
    """Whether oneDNN makes float32 products in float32 on this CPU.

    torch has no switch for the library alone, only one ("medium") that also permits it bfloat16, which oneDNN takes
    where there are matrix units for that (AMX). It shows in the result: bfloat16 does not tell 1 from 1 + 2**-10.
    """
    factor = torch.full((64, 64), 1 + 2**-10)
    with matrix_products("float32", onednn=True):
        product = factor @ factor
    return bool(((product.double() - 64 * (1 + 2**-10) ** 2).abs() < 1e-3).all())


def check_onednn(onednn: bool, device: torch.device) -> None:
    """UserError where oneDNN was asked for and would not make float32 products in float32."""
    if onednn and device.type != "cpu":
        raise UserError(f"onednn=True is about matrix products on a CPU, the device is {device.type}: leave it out.")
    if onednn and not onednn_keeps_float32():
        raise UserError(
            "onednn=True would round float32 products to bfloat16 on this processor: leave it out, or ask for "
            "precision=bfloat16."
        )
