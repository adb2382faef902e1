"""What a job takes along to the cluster: the working directory, and this very package with its metadata.

The package travels as Python modules, not as something for pip to install: nothing is fetched from an index, no virtual
environment is copied, and a node that has another version of it installed runs ours.
"""

import importlib.metadata
import importlib.util
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spin_rl.envs.errors import UserError
from spin_rl.platform.doctor_machine import PINS

PARTS = ("envs", "algorithms", "platform", "sweeps")

EXCLUDES = ("/data", "/results", "/mlruns", "mlflow.db*", "*.egg-info")
"""Never sent, besides what .gitignore and .rayignore name and Ray's own list (.git, .venv, __pycache__)."""

_LIMIT = 100 * 2**20  # bytes that a cluster's job server takes in one request
_MIB = 2**20


@contextmanager
def runtime_env(working_dir: Path, *, env: Mapping[str, str], pip: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Ray's runtime environment of a job; the files that it names are there as long as this lasts.

    Args:
        working_dir: the folder that becomes the job's working directory.
        env: environment variables of the job and of all of its workers.
        pip: packages that pip installs on every node besides.

    Raises:
        UserError: the folder is not there, or too large to be sent.
    """
    check_size(working_dir)
    with tempfile.TemporaryDirectory(prefix="spin-rl-job-") as place:
        modules = stage_package(Path(place))
        wanted: dict[str, Any] = {
            "working_dir": str(working_dir),
            "excludes": list(EXCLUDES),
            "py_modules": [str(module) for module in modules],
            "env_vars": dict(env),
        }
        if pip:
            wanted["pip"] = {"packages": list(pip), "pip_check": False}
        yield wanted


def stage_package(place: Path) -> list[Path]:
    """Copy the package as it is imported here, its metadata and its pins into ``place``; returns what to send."""
    ignore = shutil.ignore_patterns("__pycache__")
    package = place / "spin_rl"
    origin = importlib.util.find_spec("spin_rl")
    assert origin
    assert origin.origin
    package.mkdir()
    for file in Path(origin.origin).parent.glob("*.*"):
        if file.is_file():
            shutil.copy(file, package)
    for part in PARTS:
        spec = importlib.util.find_spec(f"spin_rl.{part}")
        assert spec
        assert spec.submodule_search_locations
        shutil.copytree(next(iter(spec.submodule_search_locations)), package / part, ignore=ignore)
    if PINS.is_file():
        shutil.copy(PINS, package)
    found = importlib.metadata.distribution("spin-rl")
    metadata = place / f"spin_rl-{found.version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(found.read_text("METADATA") or found.read_text("PKG-INFO") or "")
    return [package, metadata]


def check_size(working_dir: Path) -> int:
    """Bytes that the folder sends; raises a UserError that names its largest parts where they are too many."""
    if not working_dir.is_dir():
        raise UserError(f"{working_dir} is no folder; name the one that the job is to start in with --working-dir.")
    sizes: dict[str, int] = {}
    for path in _sent(working_dir):
        top = path.relative_to(working_dir.absolute()).parts[0]
        sizes[top] = sizes.get(top, 0) + path.stat().st_size
    total = sum(sizes.values())
    if total > _LIMIT:
        largest = ", ".join(
            f"{name} ({sizes[name] / _MIB:.0f} MiB)" for name in sorted(sizes, key=lambda name: -sizes[name])[:3]
        )
        raise UserError(
            f"{working_dir} would send {total / _MIB:.0f} MiB to the cluster, which takes {_LIMIT / _MIB:.0f}: name "
            f"what the job does not need in a .rayignore file there, or start elsewhere with --working-dir; the "
            f"largest: {largest}."
        )
    return total


def _sent(folder: Path) -> list[Path]:
    """The files that Ray would send of a folder, by its own rules."""
    from ray._private.ray_constants import get_runtime_env_default_excludes
    from ray._private.runtime_env.packaging import _dir_travel, _get_excludes

    files = []

    def note(path: Path) -> None:
        if path.is_file():
            files.append(path)

    excludes = [*EXCLUDES, *get_runtime_env_default_excludes()]
    _dir_travel(folder.absolute(), [_get_excludes(folder.absolute(), excludes)], note, include_gitignore=True)
    return files
