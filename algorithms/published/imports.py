"""Import externally trained models into the store, and policies as checkpoints that can be evaluated."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from spin_rl.algorithms.asm.files import ASMShape
from spin_rl.algorithms.asm.model import ActionStructureModel
from spin_rl.algorithms.asm.pretraining import ASMConfig, ASMPretraining
from spin_rl.algorithms.objectives import IQLSettings
from spin_rl.algorithms.policies.slots import SlotPolicy
from spin_rl.algorithms.presets import get_preset
from spin_rl.algorithms.pretraining.checkpoints import add_checkpoint, model_identity
from spin_rl.algorithms.training.agent import AgentSpec, build_objective
from spin_rl.algorithms.training.checkpoints import save_agent_spec
from spin_rl.envs import Task, nvec_of
from spin_rl.errors import UserError
from spin_rl.platform.asm_store.extension import extending
from spin_rl.platform.asm_store.store import ASMCheckpoint, ASMStore
from spin_rl.platform.datasets import OfflineDataset


def store_imported_asm(
    store: ASMStore,
    dataset: OfflineDataset,
    model: ActionStructureModel,
    *,
    origin: str,
    steps: int | None = None,
    epochs: int | None = None,
    seconds: float = 0.0,
) -> ASMCheckpoint:
    """Put an externally pretrained model into the store, validated on ``dataset``; returns it if it is there already.

    Its address includes the digest of its origin, so that it is never confused with a model of our own. The training
    state beside it is a fresh one, as a state dict comes without an optimiser.

    Args:
        store: the store.
        dataset: its pretraining data, or the nearest equivalent here.
        model: the model.
        origin: digest of its file.
        steps: pretraining steps that it has had; 0 if unknown.
        epochs: instead of steps, epochs of ``dataset`` at the default batch size.
        seconds: of its pretraining, which count as cost of every policy that starts from it.

    Raises:
        UserError: the model has other spaces than the dataset.
    """
    meta = dataset.meta
    _check_spaces(model.observation_size, model.nvec, meta.observation_size, meta.nvec, meta.key)
    config = ASMConfig(sizes=model.sizes)
    identity = {**model_identity(dataset, config), "imported": origin}
    folder = store.folder(meta.key, identity)
    with extending(folder, identity) as extension:
        assert extension
        pretraining = ASMPretraining(dataset, config, torch.device("cpu"))
        pretraining.model.load_state_dict(model.state_dict())
        pretraining.step = epochs * pretraining.steps_per_epoch if epochs is not None else steps or 0
        pretraining.seconds = seconds
        return extension.sound(pretraining.step) or add_checkpoint(extension, identity, dataset, pretraining)


def write_imported_policy(
    folder: Path, task: Task, policy: SlotPolicy, shape: ASMShape, *, algorithm: str, origin: str
) -> None:
    """Write an externally trained policy as a checkpoint into ``folder``, with untrained critics.

    An existing folder is left unchanged.

    Raises:
        UserError: the policy has other spaces than the task.
    """
    env = task.make()
    try:
        size = int(np.prod(env.observation_space.shape or ()))
        _check_spaces(shape.observation_size, shape.nvec, size, nvec_of(env), task.key)
    finally:
        env.close()
    if folder.exists():
        return
    preset = get_preset("paper", asm=shape.sizes)
    spec = AgentSpec(algorithm, shape.observation_size, shape.nvec, preset, IQLSettings())
    objective = build_objective(spec)
    assert objective.policy is not None
    objective.policy.load_state_dict(policy.state_dict())
    making = folder.with_name(f".{folder.name}-{os.getpid()}")
    making.mkdir(parents=True)
    try:
        save_agent_spec(spec, making)
        tensors = {f"networks.{name}": value for name, value in objective.state_dict().items()}
        save_file(tensors, making / "learner.safetensors")
        (making / "progress.json").write_text(json.dumps({"updates": 0}))
        settings = {"env": task.gym_id, "method_name": algorithm, "imported": origin}
        (making / "settings.json").write_text(json.dumps(settings, indent=2))
        making.rename(folder)
    except OSError as error:
        shutil.rmtree(making, ignore_errors=True)
        raise UserError(f"{folder} could not be written ({error}); free space and run again.") from error


def _check_spaces(
    observation_size: int, nvec: tuple[int, ...], expected_size: int, expected_nvec: tuple[int, ...], where: str
) -> None:
    """UserError where a file's spaces are not those of ``where``."""
    if (observation_size, tuple(nvec)) != (expected_size, tuple(expected_nvec)):
        raise UserError(
            f"The file is of {observation_size} observation values and sub-actions with {_counted(nvec)} choices, "
            f"{where} has {expected_size} and {_counted(expected_nvec)}: name the task and the number of bins that the "
            "file was trained on."
        )


def _counted(nvec: tuple[int, ...]) -> str:
    """``6 x 3`` where all are alike, else each."""
    return f"{len(nvec)} x {nvec[0]}" if len(set(nvec)) == 1 else str(tuple(nvec))
