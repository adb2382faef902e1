"""The command that repeats a run."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

_OPTIONS = {
    "objective": "--objective",
    "bins": "--bins",
    "preset": "--preset",
    "seed": "--seed",
    "updates": "--updates",
    "evaluate_every": "--evaluate-every",
    "evaluation_episodes": "--episodes",
    "asm": "--asm",
    "clone": "--clone",
}
# parameters that are positional, or that `spin-rl train` derives from the others or from the model given by --asm
_DERIVED = ("algorithm", "task", "level", "dataset", "dataset_digest", "environment", "updates_per_iteration")


def repeat_command(params: Mapping[str, Any]) -> str | None:
    """The command that runs a trial again with the same data, model, settings and seed; None if its data is unknown."""
    if any(not params.get(name) for name in ("algorithm", "task", "level", "dataset")):
        return None
    words = ["spin-rl", "train", params["algorithm"], params["task"], params["level"]]
    root, _, name = str(params["dataset"]).rsplit("/", 2)  # a URL as well as a path
    words += ["--root", root]
    version = name.rpartition("-v")[2]
    words += ["--version", version] if version.isdigit() else []
    for name, value in params.items():
        if value is None or name in _DERIVED or _only_describes(name, params):
            continue
        text = json.dumps(value) if isinstance(value, dict | list | bool) else str(value)
        words += [_OPTIONS[name], text] if name in _OPTIONS else ["--set", f"{name}={text}"]
    return shlex.join(words)


def _only_describes(name: str, params: Mapping[str, Any]) -> bool:
    """Whether a parameter sets nothing: it describes the model that is given, or repeats a size in ``network``."""
    network = params.get("network") or {}
    return name in ("label",) or name.startswith(("asm_", "clone_")) or name in network.get("asm", {})
