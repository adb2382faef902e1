"""Where results come from: the code, the versions, the machine."""

import json
import os
import platform
import shutil
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

_PACKAGES = ("spin-rl", "torch", "ray", "mlflow", "optuna", "numpy", "gymnasium", "dm_control", "mujoco", "pyarrow")

CODE = "SPIN_RL_CODE"
"""The environment variable that carries the code version of a job's submitter, as JSON."""


@cache
def own_provenance() -> dict[str, Any]:
    """Code (commit, uncommitted changes), versions and machine of this process; what is unknown is left out."""
    return {"code": code(), "versions": _versions(), "machine": _machine()}


def code() -> dict[str, Any]:
    """The commit that this package runs from, and whether there are uncommitted changes; empty if unknown.

    A job's working directory on a cluster has no repository: there ``CODE`` carries what its submitter ran from.
    """
    return _repository() or json.loads(os.environ.get(CODE, "{}"))


def _repository() -> dict[str, Any]:
    root = Path(__file__).resolve().parents[2]
    if not (root / "pyproject.toml").is_file() or shutil.which("git") is None:
        return {}
    commit = _output("git", "-C", str(root), "rev-parse", "HEAD")
    changes = _output("git", "-C", str(root), "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": bool(changes)} if commit else {}


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _machine() -> dict[str, Any]:
    machine: dict[str, Any] = {
        "system": f"{platform.system()} {platform.release()}",
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }
    gpus = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader") if shutil.which("nvidia-smi") else ""
    if gpus:
        names = gpus.splitlines()
        machine["gpu"] = ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    return machine


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
