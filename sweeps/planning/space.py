"""A sweep's space: the parameters that vary between its trials, as immutable data, and the points that it spans."""

import json
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from spin_rl.algorithms.asm.model import TRUNK_SIZES
from spin_rl.algorithms.methods import METHOD_SETTINGS, get_method
from spin_rl.algorithms.objectives import get_objective
from spin_rl.algorithms.presets import get_preset
from spin_rl.algorithms.settings import FREE_SETTINGS, NETWORK_SETTINGS, OBJECTIVE_SETTINGS, parse_settings
from spin_rl.errors import UserError, unknown_name
from spin_rl.sweeps.planning.models import MASKINGS

Space = Mapping[str, tuple[Any, ...]]
"""Every parameter with its values."""

Point = dict[str, Any]
"""One value for every parameter."""

NEEDED = ("seed", "task", "bins", "level", "algorithm", "objective", "preset", "updates", "evaluations", "episodes")
"""Parameters that every space has. Trials are run in this order, so that an interrupted sweep has whole seeds."""

PRETRAINING = ("asm_steps", "asm_epochs", "asm_objective", "asm_masking", "asm_precision")
"""Parameters of the pretraining, for methods that start from a pretrained action structure model."""

CLONING = ("clone_steps", "clone_epochs")
"""Parameters of the cloning, for methods that start from a clone. In a space without them a clone is made with as many
steps or epochs as an action structure model."""

SIZES = (*TRUNK_SIZES, "head_width")
"""Sizes of the transformer over sub-actions: SPIN's, in its pretrained models too, and SAINT's."""

SETTINGS = (*FREE_SETTINGS, *NETWORK_SETTINGS)
"""Parameters that are settings of the training, by the same names."""

PARAMETERS = (*NEEDED, "version", *PRETRAINING, *CLONING, *SIZES, *SETTINGS)
"""Every name that a space can hold."""

_WHOLE = {
    "updates": 1,
    "evaluations": 1,
    "episodes": 1,
    "asm_steps": 0,
    "asm_epochs": 0,
    "clone_steps": 0,
    "clone_epochs": 0,
    "seed": 0,
    "bins": 2,
}
_WHOLE |= {"version": 1, **dict.fromkeys(SIZES, 1)}


def check_space(space: Space) -> None:
    """Check the names and values of ``space``.

    Raises:
        UserError: an unknown or missing parameter, one without values, or a value of the wrong type.
    """
    for name, values in space.items():
        if name not in PARAMETERS:
            raise unknown_name("parameter", name, PARAMETERS)
        if not values:
            raise UserError(f"The space is empty: {name} has no value. Give it one at least.")
        least = _WHOLE.get(name)
        for value in values:
            whole = isinstance(value, int) and not isinstance(value, bool)
            if least is not None and not (whole and value >= least):
                raise UserError(f"{name} is a whole number from {least} on, not {value!r}.")
            if name in SETTINGS:
                parse_settings([f"{name}={json.dumps(value)}"])
        if len(set(map(str, values))) < len(values):
            raise UserError(f"{name} has the same value twice: {', '.join(map(str, values))}.")
    missing = [name for name in NEEDED if name not in space]
    if missing:
        raise UserError(f"The space has no {missing[0]}: give it a value, such as --set {missing[0]}=...")
    for name, known in (("asm_masking", MASKINGS), ("asm_precision", ("float32", "bfloat16"))):
        for value in space.get(name, ()):
            if value not in known:
                raise unknown_name(name, value, known)


def points(space: Space, one_at_a_time: tuple[str, ...] = ()) -> Iterator[Point]:
    """Every point of ``space`` once, without the parameters that do not concern its method and objective.

    Args:
        space: the parameters with their values.
        one_at_a_time: sizes of which at most one differs from the preset's at a time.
    """
    together = [
        name for name in (*NEEDED, *(name for name in space if name not in NEEDED)) if name not in one_at_a_time
    ]
    seen = set()
    for values in product(*(space[name] for name in together)):
        base = dict(zip(together, values, strict=True))
        base["objective"] = objective_of(base, space)
        for sizes in _around(get_preset(base["preset"]).asm.to_dict(), space, one_at_a_time):
            point = {name: value for name, value in (base | sizes).items() if _concerns(name, base)}
            key = str(sorted(point.items()))
            if key not in seen:
                seen.add(key)
                yield point


def objective_of(point: Mapping[str, Any], space: Space) -> str:
    """The objective that a point is trained with: its own if its method can take it.

    Otherwise it is the first of the space's that the method can take, or the method's own if it has only one. The
    point is then the same as another. A method that has the choice and is given none of its objectives keeps the
    point's, with which its trial is refused.

    Raises:
        UserError: there is no such method or objective.
    """
    method, given = get_method(point["algorithm"]), (point["objective"], *space["objective"])
    for name in given:
        get_objective(name)
    taken = [name for name in given if name in method.objectives]
    if not taken and len(method.objectives) == 1:
        return method.objectives[0]
    return str(taken[0] if taken else point["objective"])


def _around(usual: Mapping[str, Any], space: Space, names: tuple[str, ...]) -> Iterator[Point]:
    """The preset's sizes, then those that differ from them in one."""
    center = {name: usual[name] for name in names if name in space}
    yield center
    for name in center:
        for value in space[name]:
            if value != center[name]:
                yield {**center, name: value}


def _concerns(name: str, point: Point) -> bool:
    """Whether a parameter makes a difference for a point's method and objective."""
    method = get_method(point["algorithm"])
    if name in CLONING:
        return method.uses_clone
    if name in PRETRAINING:
        as_long = name in ("asm_steps", "asm_epochs") and not any(other in point for other in CLONING)
        return method.uses_asm or (method.uses_clone and as_long)
    if name in SIZES:
        return name in method.sizes
    if name in METHOD_SETTINGS:
        return name in method.settings
    if name in OBJECTIVE_SETTINGS:
        return hasattr(get_objective(point["objective"]).settings_class, name)
    return True


def starts_from_model(algorithm: str) -> bool:
    """Whether a method starts from a pretrained model, of whichever kind."""
    return get_method(algorithm).pretrained is not None
