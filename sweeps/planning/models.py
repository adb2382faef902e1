"""The pretraining that a preset and a few options describe: for points of a sweep and for the commands alike."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from spin_rl.algorithms.asm.masking import Masking
from spin_rl.algorithms.asm.pretraining import ASMConfig
from spin_rl.algorithms.cloning.cloning import CloneConfig
from spin_rl.algorithms.methods import METHODS, get_method
from spin_rl.algorithms.presets import Preset, get_preset
from spin_rl.errors import UserError, unknown_name

MASKINGS = ("fixed", "variable")
"""Kinds of masking: one rate for all samples, or a rate drawn for each."""


def masking_of(preset: str, kind: str | None = None, **changes: float) -> Masking:
    """The masking of a preset, with another kind or other fields if given.

    Raises:
        UserError: there is no such preset or kind, or the fields do not fit each other.
    """
    if kind is not None and kind not in MASKINGS:
        raise unknown_name("masking", kind, MASKINGS)
    usual = get_preset(preset).masking
    variable = usual.variable if kind is None else kind == "variable"
    return replace(usual, variable=variable, **changes)


def asm_config(
    preset: str,
    seed: int,
    *,
    objective: str = "mam",
    masking: Masking | None = None,
    precision: str | None = None,
    sizes: Mapping[str, int] | None = None,
    **details: Any,
) -> ASMConfig:
    """What an action structure model is pretrained with.

    Args:
        preset: gives sizes, masking and precision where they are not given.
        seed: of the pretraining.
        objective: what is learned: ``mam``, ``vam`` or ``cam``.
        masking: how sub-actions are hidden.
        precision: of matrix products: ``float32`` or ``bfloat16``.
        sizes: fields of ``ASMSizes`` that differ from the preset's.
        **details: further fields of ``ASMConfig``.

    Raises:
        UserError: an option has no such value, or the sizes do not fit each other.
    """
    defaults = get_preset(preset)
    asm = replace(defaults.asm, **(sizes or {}))
    if asm.width % asm.heads:
        raise UserError(f"The width ({asm.width}) must be a multiple of the number of heads ({asm.heads}).")
    return ASMConfig(
        sizes=asm,
        objective=objective,
        masking=masking or defaults.masking,
        precision=precision or defaults.asm_precision,
        seed=seed,
        **details,
    )


def clone_config(algorithm: str, preset: Preset, seed: int, **details: Any) -> CloneConfig:
    """What the clone that a method starts from is made with.

    Args:
        algorithm: the method, which says which network is cloned.
        preset: gives the network's sizes.
        seed: of the cloning.
        **details: further fields of ``CloneConfig``.

    Raises:
        UserError: the method starts from no clone.
    """
    method = get_method(algorithm)
    if not method.uses_clone:
        clones = " or ".join(other.name for other in METHODS.values() if other.uses_clone)
        raise UserError(f"{algorithm} starts from no clone: give a method that does, {clones}.")
    return CloneConfig(method.cloned, preset, seed=seed, **details)
