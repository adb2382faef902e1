"""Beginning a behaviour training with what another one learnt: the same task with as many bins or fewer."""

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
from spin_rl.envs.behaviour.settings import BehaviourSettings, config_of
from spin_rl.envs.catalogue import Task, get_task, nvec_of
from spin_rl.errors import UserError

_LAST = ("body.6.weight", "body.6.bias")
"""Of a network's last layer, whose rows are the choices."""


def start_from(path: Path, task: Task, config: BehaviourSettings) -> tuple[BehaviourSettings, dict[str, Tensor]]:
    """Settings and first tensors of a training that begins with what another one learnt.

    It may go on with other settings what that one began. It has its architecture, and explores no more at its start
    than at its end.

    Args:
        path: the other training, ``.../<task>-<bins>/seed-<seed>``, for the networks of its checkpoint, the critics of
            sac among them; or, for what acts alone, one of its snapshots, ``.../snapshots/<step>.safetensors``, or a
            policy with its card, ``.../<level>.safetensors``: of a shipped one ``<task>-<bins>/<level>`` will do.
        task: the problem, with as many bins or more.
        config: what else is wanted.

    Raises:
        UserError: there is no such training or file, or it is of another task, or of more bins.
    """
    content, other = _found(path)
    if other["task"] != task.name or other["bins"] > task.bins:
        raise UserError(f"{path} is of {other['task']}-{other['bins']}: {task.key} can't begin with it.")
    before = config_of(other)
    kept = asdict(before.architecture) | {"normalize": before.normalize, "algorithm": before.algorithm}
    tensors = load(content)
    if path.is_dir():
        kept["critics"] = before.critics
    else:
        tensors = {f"network.{name}": tensor for name, tensor in tensors.items()}
    config = replace(config, epsilon_steps=1, started_from=hashlib.sha256(content).hexdigest(), **kept)
    if other["bins"] == task.bins:
        return config, tensors
    return config, grown(tensors, _choices(get_task(task.name, other["bins"])), _choices(task))


def _found(path: Path) -> tuple[bytes, dict[str, Any]]:
    """The tensors' file that ``path`` names, and the settings that they were learnt with, task and bins included."""
    policy = path if path.exists() else SHIPPED / path.with_suffix(".safetensors")
    if policy.is_file() and policy.with_suffix(".json").is_file():
        content, card = read_policy(policy)
        return content, {"task": card.task, "bins": card.bins, **card.settings}
    file = Checkpoints(path).state() if path.is_dir() else path
    settings = (path if path.is_dir() else path.parent.parent) / "config.json"
    if not (file.is_file() and settings.is_file()):
        raise UserError(
            f"{path} is no behaviour training with a checkpoint, <storage>/behaviour/<task>-<bins>/seed-<seed>, no "
            "snapshot of one, <training>/snapshots/<step>.safetensors, and no policy that is shipped, "
            "<task>-<bins>/<level>."
        )
    return file.read_bytes(), json.loads(settings.read_text())


def grown(weights: Mapping[str, Tensor], nvec: Sequence[int], finer: Sequence[int]) -> dict[str, Tensor]:
    """Weights of a network whose choices lie closer together, as a start for its training.

    A new choice's utility is the one between those of its neighbours, by where it lies (after Seyde et al. 2024, arXiv
    2404.04253, who unmask choices while they train).

    Args:
        weights: of a network with ``nvec``.
        nvec: choices of each sub-action, as many of all; spread evenly, the first and last are the extremes.
        finer: those wanted, likewise.

    Raises:
        UserError: other sub-actions, or not equally many choices of each.
    """
    if len(nvec) != len(finer) or len({*nvec}) != 1 or len({*finer}) != 1:
        raise UserError(f"A network of choices {tuple(nvec)} can't grow into one of {tuple(finer)}.")
    made = dict(weights)
    for name in weights:
        if name.endswith(_LAST):
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
