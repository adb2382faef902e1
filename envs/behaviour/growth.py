"""Starting a behaviour training from what another one learnt: the same task with as many bins, or fewer."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from safetensors.torch import load
from torch import Tensor
from torch.nn.functional import interpolate

from spin_rl.envs.behaviour.checkpoint import Checkpoints
from spin_rl.envs.behaviour.library import SHIPPED, read_policy
from spin_rl.envs.behaviour.settings import BehaviourSettings, settings_from
from spin_rl.envs.catalogue import Task, get_task, nvec_of
from spin_rl.errors import UserError

_LAST_LAYER = ("body.6.weight", "body.6.bias")
"""Of a network; its rows are the choices."""


def start_from(path: Path, task: Task, settings: BehaviourSettings) -> tuple[BehaviourSettings, dict[str, Tensor]]:
    """Settings and initial tensors of a training that starts from what another one learnt.

    The new training has the other one's architecture and starts with the exploration rate that a training ends with.
    Other settings may differ.

    Args:
        path: a training, ``.../<task>-<bins>/seed-<seed>``: all networks of its checkpoint, including SAC's critics.
            Or the acting network alone: a snapshot, ``.../snapshots/<step>.safetensors``, or a policy beside its card,
            ``.../<level>.safetensors``; for a shipped policy ``<task>-<bins>/<level>`` is enough.
        task: the problem, with as many bins or more.
        settings: of the new training.

    Raises:
        UserError: no such training or file, or one of another task or of more bins.
    """
    content, other = _read_start(path)
    if other["task"] != task.name or other["bins"] > task.bins:
        raise UserError(f"{path} is of {other['task']}-{other['bins']}: {task.key} cannot start from it.")
    before = settings_from(other)
    kept = asdict(before.architecture) | {"normalize": before.normalize, "algorithm": before.algorithm}
    tensors = load(content)
    if path.is_dir():
        kept["critics"] = before.critics
    else:
        tensors = {f"network.{name}": tensor for name, tensor in tensors.items()}
    settings = replace(settings, epsilon_steps=1, started_from=hashlib.sha256(content).hexdigest(), **kept)
    if other["bins"] == task.bins:
        return settings, tensors
    return settings, grown(tensors, _choices(get_task(task.name, other["bins"])), _choices(task))


def _read_start(path: Path) -> tuple[bytes, dict[str, Any]]:
    """Content of the tensor file that ``path`` names, and the settings of its training, including task and bins."""
    policy = path if path.exists() else SHIPPED / path.with_suffix(".safetensors")
    if policy.is_file() and policy.with_suffix(".json").is_file():
        content, card = read_policy(policy)
        return content, {"task": card.task, "bins": card.bins, **card.settings}
    file = Checkpoints(path).state() if path.is_dir() else path
    settings = (path if path.is_dir() else path.parent.parent) / "config.json"
    if not (file.is_file() and settings.is_file()):
        raise UserError(
            f"{path} is not a behaviour training with a checkpoint (<storage>/behaviour/<task>-<bins>/seed-<seed>), "
            "not a snapshot of one (<training>/snapshots/<step>.safetensors) and not a shipped policy "
            "(<task>-<bins>/<level>)."
        )
    return file.read_bytes(), json.loads(settings.read_text())


def grown(weights: Mapping[str, Tensor], nvec: Sequence[int], finer: Sequence[int]) -> dict[str, Tensor]:
    """Initial weights of a network with more choices per sub-action, interpolated from one with fewer.

    The utility of a new choice is interpolated linearly between its neighbours (after Seyde et al. 2024, arXiv
    2404.04253, which unmasks choices during training).

    Args:
        weights: of a network with ``nvec`` choices.
        nvec: choices (N,), the same number for all sub-actions; evenly spaced, the first and last are the extremes.
        finer: choices (N,) of the new network, likewise.

    Raises:
        UserError: different numbers of sub-actions, or of choices within one of the two.
    """
    if len(nvec) != len(finer) or len({*nvec}) != 1 or len({*finer}) != 1:
        raise UserError(f"A network with choices {tuple(nvec)} cannot be grown to choices {tuple(finer)}.")
    made = dict(weights)
    for name in weights:
        if name.endswith(_LAST_LAYER):
            rows = weights[name].reshape(len(nvec), nvec[0], -1).transpose(1, 2)  # (N, W, C)
            between = interpolate(rows, finer[0], mode="linear", align_corners=True)
            made[name] = between.transpose(1, 2).reshape(-1, *weights[name].shape[1:])
    return made


def _choices(task: Task) -> tuple[int, ...]:
    env = task.make()
    try:
        return nvec_of(env)
    finally:
        env.close()
