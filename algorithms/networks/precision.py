"""The precision of matrix products: float32, TF32 on NVIDIA GPUs, or bfloat16 under autocast.

Weights, losses, targets and optimiser states are float32 in all of them, and so is acting.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache

import torch

from spin_rl.errors import UserError, unknown_name

PRECISIONS = ("float32", "tf32", "bfloat16")


def check_precision(precision: str, device: torch.device | str | None = None) -> None:
    """UserError where there is no such precision, or ``device`` (where it is known) does not have it."""
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    if precision == "tf32" and device is not None and torch.device(device).type != "cuda":
        raise UserError(
            f"precision=tf32 is a format of NVIDIA GPUs, the device is {torch.device(device).type}: "
            "use float32 or bfloat16, or train on a GPU."
        )


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context of forward passes in ``precision``.

    Enter it for the forward passes between two optimiser steps, never around a step: it caches the weights that it has
    cast until it is left.
    """
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()


@contextmanager
def matrix_products(precision: str, *, onednn: bool = False) -> Iterator[None]:
    """The context that sets how float32 matrix products are computed.

    Args:
        precision: ``tf32`` computes them in TF32 on a GPU; others change nothing.
        onednn: on a CPU, use oneDNN in place of MKL, which does not use AVX-512 on AMD's processors.
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
    """Whether oneDNN computes float32 products in float32 on this CPU.

    torch has no switch for the library alone, only one ("medium") that also permits bfloat16, which oneDNN uses where
    there are matrix units for it (AMX). The result shows it: bfloat16 does not distinguish 1 and 1 + 2**-10.
    """
    factor = torch.full((64, 64), 1 + 2**-10)
    with matrix_products("float32", onednn=True):
        product = factor @ factor
    return bool(((product.double() - 64 * (1 + 2**-10) ** 2).abs() < 1e-3).all())


def check_onednn(onednn: bool, device: torch.device) -> None:
    """UserError where oneDNN is requested and would not compute float32 products in float32."""
    if onednn and device.type != "cpu":
        raise UserError(f"onednn=True is about matrix products on a CPU, the device is {device.type}: leave it out.")
    if onednn and not onednn_keeps_float32():
        raise UserError(
            "onednn=True would round float32 products to bfloat16 on this processor: leave it out, or use "
            "precision=bfloat16."
        )
