"""Names, types and help of the settings, read off the classes that hold them, and values written on a command line."""

import inspect
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, fields
from typing import Any, get_args

from spin_rl.algorithms.objectives import OBJECTIVES, ObjectiveSettings
from spin_rl.algorithms.presets import PRESETS, Preset
from spin_rl.algorithms.settings.training import SetBy, TrainingSettings
from spin_rl.errors import UserError, unknown_name


@dataclass(frozen=True)
class ObjectiveSetting:
    """A setting that some of the objectives have.

    Attributes:
        type: of its values; in a configuration None stands for the objective's default.
        help: what it is, with the objectives that have it and their defaults.
    """

    type: Any
    help: str


def _attribute_help(owner: type) -> dict[str, str]:
    """What the docstrings of ``owner`` and of its bases say about each of its attributes."""
    found: dict[str, str] = {}
    for base in reversed(owner.__mro__):
        _, _, listed = (inspect.getdoc(base) or "").partition("\nAttributes:\n")
        entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8,}.*)*)", listed, re.MULTILINE)
        found |= {name: " ".join(text.split()) for name, text in entries}
    return found


def _objective_settings() -> dict[str, ObjectiveSetting]:
    shared = {field.name for field in fields(ObjectiveSettings)}
    owners: dict[str, dict[str, Field[Any]]] = {}
    for objective in OBJECTIVES.values():
        for field in fields(objective.settings_class):
            if field.name not in shared:
                owners.setdefault(field.name, {})[objective.settings_class.name] = field
    found = {}
    for name, by_objective in owners.items():
        first = OBJECTIVES[next(iter(by_objective))].settings_class
        defaults = ", ".join(f"{objective} (default {field.default})" for objective, field in by_objective.items())
        said = _attribute_help(first).get(name, "")
        found[name] = ObjectiveSetting(next(iter(by_objective.values())).type, f"of {defaults}: {said}".rstrip(": "))
    return found


OBJECTIVE_SETTINGS: Mapping[str, ObjectiveSetting] = _objective_settings()
"""What objectives have beyond the settings that all of them share."""

_FIELDS = {field.name: field for field in fields(TrainingSettings)}

SETTINGS = tuple(
    name
    for field in fields(TrainingSettings)
    if field.metadata["by"] is not SetBy.RUN
    for name in (OBJECTIVE_SETTINGS if field.metadata["by"] is SetBy.OBJECTIVE else (field.name,))
)
"""Everything that training depends on, except for the environment, the data and the seed."""

_NETWORK_FIELDS = {field.name: field for field in fields(Preset)}

NETWORK_SETTINGS = tuple(name for name in _NETWORK_FIELDS if name not in ("asm", "masking", "asm_precision"))
"""Fields of ``network`` that a trial may give by themselves."""

FREE_SETTINGS = tuple(name for name in SETTINGS if name not in _FIELDS or not _FIELDS[name].metadata["option"])
"""What a command line may set; commands have options of their own for the others, or derive them."""

_CHOICES: Mapping[str, Iterable[str]] = {"objective": OBJECTIVES, "preset": PRESETS}

HELP: Mapping[str, str] = {
    name: f"{text.rstrip('.')}: {', '.join(_CHOICES[name])}." if name in _CHOICES else text
    for name, text in (
        *_attribute_help(TrainingSettings).items(),
        *((name, setting.help) for name, setting in OBJECTIVE_SETTINGS.items()),
    )
}
"""What each setting is."""


def type_of(name: str) -> Any:
    """Type of a setting's values in a configuration."""
    return OBJECTIVE_SETTINGS[name].type | None if name in OBJECTIVE_SETTINGS else _FIELDS[name].type


def parse_settings(assignments: Iterable[str]) -> dict[str, Any]:
    """Settings of a trial from ``NAME=VALUE``, where a value is JSON or else a string.

    Raises:
        UserError: there is no setting of that name, or its value is of the wrong type.
    """
    settings: dict[str, Any] = {}
    for assignment in assignments:
        name, found, text = assignment.partition("=")
        if not found:
            raise UserError(f"'{assignment}' sets nothing; write NAME=VALUE.")
        if name not in (*FREE_SETTINGS, *NETWORK_SETTINGS):
            raise unknown_name("setting", name, (*FREE_SETTINGS, *NETWORK_SETTINGS))
        settings[name] = parse_value(text)
        if isinstance(settings[name], str | list | dict) and not _takes_text(name):
            raise UserError(f"{name} is a number, true, false or null, not '{text}'.")
    return settings


def parse_value(text: str) -> Any:
    """A value written on a command line: JSON, or else a string."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _takes_text(name: str) -> bool:
    """Whether a setting's values are strings, or a mapping that JSON writes."""
    kind = _NETWORK_FIELDS[name].type if name in NETWORK_SETTINGS else type_of(name)
    kinds = get_args(kind) or (kind,)
    return str in kinds
