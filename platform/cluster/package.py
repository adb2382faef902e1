"""What a job uploads to the cluster: its working directory, and this package if it is not part of that."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pathspec import GitIgnoreSpec

import spin_rl
from spin_rl.errors import UserError

EXCLUDES = (".git", ".venv", "venv", "__pycache__", "/data", "/results", "/mlruns", "mlflow.db*", "*.egg-info")
"""Never uploaded, besides what .gitignore and .rayignore name."""

_MIB = 2**20
_LIMIT = 100 * _MIB  # bytes that a cluster's job server accepts in one request


def runtime_env(working_dir: Path, *, env: Mapping[str, str], pip: Sequence[str] = ()) -> dict[str, Any]:
    """Ray's runtime environment of a job.

    A checkout contains the package. From any other folder the package is uploaded as it is installed here, so that the
    nodes need not have it.

    Args:
        working_dir: the folder that becomes the job's working directory.
        env: environment variables of the job and of all of its workers.
        pip: more packages, which pip installs on every node.

    Raises:
        UserError: the folder does not exist, or is too large to be uploaded.
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
    """Bytes that the folder uploads.

    Checked here, because Ray packs the whole folder before the cluster refuses it, however large it is.

    Raises:
        UserError: it does not exist, or is too large; names its largest entries.
    """
    if not working_dir.is_dir():
        raise UserError(f"{working_dir} is not a folder; name the job's working directory with --working-dir.")
    sizes: dict[str, int] = {}
    for path in uploaded_files(working_dir):
        top = path.relative_to(working_dir.absolute()).parts[0]
        sizes[top] = sizes.get(top, 0) + path.stat().st_size
    total = sum(sizes.values())
    if total > _LIMIT:
        largest = ", ".join(
            f"{name} ({sizes[name] / _MIB:.0f} MiB)" for name in sorted(sizes, key=lambda name: -sizes[name])[:3]
        )
        raise UserError(
            f"{working_dir} would upload {total / _MIB:.0f} MiB to the cluster, which accepts {_LIMIT / _MIB:.0f}: "
            "list what the job does not need in a .rayignore file there, or choose another folder with --working-dir; "
            f"the largest entries: {largest}."
        )
    return total


def uploaded_files(folder: Path) -> Iterator[Path]:
    """The files of ``folder`` that Ray uploads: links are followed, each folder's ignore files apply below it."""
    folder = folder.absolute()
    yield from _walk(folder, [(folder, GitIgnoreSpec.from_lines(EXCLUDES))])


def _walk(folder: Path, ignored: list[tuple[Path, GitIgnoreSpec]]) -> Iterator[Path]:
    for name in (".gitignore", ".rayignore"):
        if (file := folder / name).is_file():
            ignored = [*ignored, (folder, GitIgnoreSpec.from_lines(file.read_text().splitlines()))]
    for path in folder.iterdir():
        if any(spec.match_file(path.relative_to(base)) for base, spec in ignored):
            continue
        if path.is_dir():
            yield from _walk(path, ignored)
        elif path.is_file():
            yield path
