"""What a job takes along to the cluster: its working directory, and this package where it is not part of that."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import spin_rl
from spin_rl.errors import UserError

EXCLUDES = ("/data", "/results", "/mlruns", "mlflow.db*", "*.egg-info")
"""Never sent, besides what .gitignore and .rayignore name and Ray's own list (.git, .venv, __pycache__)."""

_LIMIT = 100 * 2**20  # bytes that a cluster's job server takes in one request
_MIB = 2**20


def runtime_env(working_dir: Path, *, env: Mapping[str, str], pip: Sequence[str] = ()) -> dict[str, Any]:
    """Ray's runtime environment of a job.

    A checkout brings the package along. From any other folder the package is sent as it is installed here, so that the
    nodes need not have it.

    Args:
        working_dir: the folder that becomes the job's working directory.
        env: environment variables of the job and of all of its workers.
        pip: packages that pip installs on every node besides.

    Raises:
        UserError: the folder is not there, or too large to be sent.
    """
    check_size(working_dir)
    wanted: dict[str, Any] = {
        "working_dir": str(working_dir),
        "excludes": list(EXCLUDES),
        "env_vars": dict(env),
    }
    if not (working_dir / "spin_rl" / "__init__.py").is_file():
        wanted["py_modules"] = [str(Path(spin_rl.__file__).parent)]
    if pip:
        wanted["pip"] = {"packages": list(pip), "pip_check": False}
    return wanted


def check_size(working_dir: Path) -> int:
    """Bytes that the folder sends; raises a UserError that names its largest parts where they are too many."""
    if not working_dir.is_dir():
        raise UserError(f"{working_dir} is not a folder; name the one that the job starts in with --working-dir.")
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
