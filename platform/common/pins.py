"""The package's dependencies: the ranges that it declares, and the exact versions that it is tested with."""

import importlib.metadata
import tomllib
from collections.abc import Mapping
from pathlib import Path

from packaging.requirements import Requirement

_ROOT = Path(__file__).resolve().parents[2]

PINS = _ROOT / "requirements.txt"
"""The pins, if the package runs from a checkout; an installed wheel has only its ranges."""


def requirements() -> list[Requirement]:
    """The package's own dependencies, without its extras."""
    project = _ROOT / "pyproject.toml"
    if project.is_file():  # a checkout need not be installed: on a cluster it is a job's working directory
        lines = tomllib.loads(project.read_text())["project"]["dependencies"]
    else:
        lines = importlib.metadata.requires("spin-rl") or []
    return [need for need in map(Requirement, lines) if not need.marker or need.marker.evaluate({"extra": ""})]


def read_pins(path: Path) -> Mapping[str, str]:
    """Version by package name of a requirements file in which every line is ``name==version``."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return dict(line.split("==", 1) for line in lines if line)
