"""Where results come from: the code, the versions, the machine."""

import json
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("spin-rl", "torch", "ray", "mlflow", "optuna", "numpy", "gymnasium", "dm_control", "mujoco", "pyarrow")

CODE = "SPIN_RL_CODE"
"""The environment variable in which a job is told what it was submitted from, as JSON."""


@cache
def own_provenance() -> dict[str, Any]:
    """Code (commit, uncommitted changes), versions and machine of this process; what cannot be told is left out."""
    return {"code": code(), "versions": _versions(), "machine": _machine()}


_OPTIONS = {
    "objective": "--objective",
    "bins": "--bins",
    "preset": "--preset",
    "seed": "--seed",
    "updates": "--updates",
    "evaluate_every": "--evaluate-every",
    "evaluation_episodes": "--episodes",
    "asm": "--asm",
}
# parameters that `spin-rl train` works out from the others, or from the model that --asm names
_DERIVED = ("algorithm", "task", "level", "dataset", "dataset_digest", "environment", "updates_per_iteration")


def repeat_command(params: Mapping[str, Any]) -> str | None:
    """The one command that runs a trial again: the same data, model, settings and seed; None where it has no such."""
    if any(not params.get(name) for name in ("algorithm", "task", "level", "dataset")):
        return None
    words = ["spin-rl", "train", params["algorithm"], params["task"], params["level"]]
    root, _, name = str(params["dataset"]).rsplit("/", 2)  # an address as well as a path
    words += ["--root", root]
    version = name.rpartition("-v")[2]
    words += ["--version", version] if version.isdigit() else []
    for name, value in params.items():
        if value is None or name in _DERIVED or name.startswith("asm_"):
            continue
        text = json.dumps(value) if isinstance(value, dict | list | bool) else str(value)
        words += [_OPTIONS[name], text] if name in _OPTIONS else ["--set", f"{name}={text}"]
    return shlex.join(words)


def code() -> dict[str, Any]:
    """The commit that this package is run from, and whether there are changes besides; empty where neither is known.

    A job on a cluster has no repository; whoever submitted it says so by ``CODE``.
    """
    return _repository() or json.loads(os.environ.get(CODE, "{}"))


def _repository() -> dict[str, Any]:
    root = Path(__file__).resolve().parent.parent
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
    import psutil

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
