"""Pretrained action structure models on demand: found in the store, or made from the nearest earlier one."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from spin_rl.algorithms.pretraining import ASMConfig, Pretraining
from spin_rl.envs import UserError
from spin_rl.platform.asm_store import ASMCheckpoint, ASMStore
from spin_rl.platform.datasets import OfflineDataset


def asm_identity(dataset: OfflineDataset, config: ASMConfig) -> dict[str, Any]:
    """What a model is addressed by."""
    return {"dataset": dataset.meta.digest, **config.identity()}


def ensure_asm(
    store: ASMStore,
    dataset: OfflineDataset,
    config: ASMConfig,
    steps: Sequence[int],
    *,
    device: torch.device | None = None,
    on_step: Callable[[int, float], None] | None = None,
    on_checkpoint: Callable[[ASMCheckpoint], None] | None = None,
) -> list[ASMCheckpoint]:
    """The checkpoints at ``steps``, in their order; trains what is missing, from the nearest earlier one on.

    Step 0 is the untrained model. Whoever else asks for the same model meanwhile waits, and finds what was made here.
    """
    if not steps or min(steps) < 0:
        raise UserError(f"Pretraining steps are numbers from 0 on; got {list(steps)}.")
    identity = asm_identity(dataset, config)
    folder = store.folder(dataset.meta.key, identity)
    found = store.checkpoints(folder)
    if set(steps) - set(found):
        with store.extending(folder, identity):
            found = store.checkpoints(folder)
            missing = sorted(set(steps) - set(found))
            if missing:
                pretraining = Pretraining(dataset, config, device)
                saved = store.progress(folder) | {step: Path(checkpoint.path) for step, checkpoint in found.items()}
                earlier = [step for step in saved if step <= missing[0]]
                if earlier:
                    pretraining.load(saved[max(earlier)])
                keep = _keeper(store, folder, pretraining, on_step)
                for step in missing:
                    pretraining.train(step, keep)
                    found[step] = store_checkpoint(store, folder, identity, dataset, pretraining)
                    if on_checkpoint:
                        on_checkpoint(found[step])
                store.drop_progress(folder)
    return [found[step] for step in steps]


_KEEP_EVERY = 30.0
"""Seconds of pretraining that a kill costs at most."""


def _keeper(
    store: ASMStore, folder: Path, pretraining: Pretraining, on_step: Callable[[int, float], None] | None
) -> Callable[[int, float], None]:
    """``on_step``, and every half minute the state to go on from."""
    kept = time.monotonic()

    def keep(step: int, loss: float) -> None:
        nonlocal kept
        if time.monotonic() - kept > _KEEP_EVERY:
            store.keep_progress(folder, step, pretraining.save)
            kept = time.monotonic()
        if on_step:
            on_step(step, loss)

    return keep


def store_checkpoint(
    store: ASMStore, folder: Path, identity: dict[str, Any], dataset: OfflineDataset, pretraining: Pretraining
) -> ASMCheckpoint:
    """Validate the model of ``pretraining`` and add it to the store."""
    validation = asdict(pretraining.validate())
    record = ASMCheckpoint(
        path="",
        key=folder.name,
        task=dataset.meta.task,
        bins=dataset.meta.bins,
        dataset_digest=str(identity["dataset"]),
        step=pretraining.step,
        epoch=pretraining.step / pretraining.steps_per_epoch,
        pretrain_seconds=pretraining.seconds,
        validation_loss=validation["loss"],
        validation_accuracy=validation["accuracy"],
        full_loss=validation["full_loss"],
        full_accuracy=validation["full_accuracy"],
        objective_loss=validation["objective_loss"],
    )
    return store.add(folder, record, pretraining.save)
