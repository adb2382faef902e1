"""Pretrained models on demand: found in the store, or trained from the nearest earlier one."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from spin_rl.algorithms.pretraining.base import Pretraining, PretrainingConfig
from spin_rl.errors import UserError
from spin_rl.platform.asm_store.digests import damage_of
from spin_rl.platform.asm_store.extension import Extension, extending
from spin_rl.platform.asm_store.store import ASMCheckpoint, ASMStore, checkpoints_in, mark_used
from spin_rl.platform.common.leases import LeaseLostError
from spin_rl.platform.datasets import OfflineDataset

logger = logging.getLogger(__name__)


def model_identity(dataset: OfflineDataset, config: PretrainingConfig) -> dict[str, Any]:
    """The values that address a model in the store."""
    return {"dataset": dataset.meta.digest, **config.identity()}


def ensure_pretrained(
    store: ASMStore,
    dataset: OfflineDataset,
    config: PretrainingConfig,
    steps: Sequence[int],
    *,
    device: torch.device | None = None,
    on_step: Callable[[int, float], None] | None = None,
    on_checkpoint: Callable[[ASMCheckpoint], None] | None = None,
) -> list[ASMCheckpoint]:
    """The checkpoints at ``steps``, in their order; missing ones are trained from the nearest earlier one.

    Step 0 is the untrained model. Other processes that need the same model meanwhile wait for this one and use its
    result; a damaged checkpoint is moved aside and made again.
    """
    if not steps or min(steps) < 0:
        raise UserError(f"Pretraining steps are numbers from 0 on; got {list(steps)}.")
    identity = model_identity(dataset, config)
    folder = store.folder(dataset.meta.key, identity)
    while True:
        found, damaged = _look(folder, steps)
        if not set(steps) - set(found):
            break
        # waiting for the lease may end early when all checkpoints exist, but a damaged one exists already
        unless = None if damaged else lambda: set(steps) <= set(store.checkpoints(folder))
        try:
            with extending(folder, identity, unless) as extension:
                if extension:
                    _extend(extension, identity, dataset, config, steps, device, on_step, on_checkpoint)
        except LeaseLostError as error:
            logger.warning("%s This pretraining stops and waits for the other one's result.", error)
    for checkpoint in found.values():
        mark_used(checkpoint)
    return [found[step] for step in steps]


def missing_steps(
    store: ASMStore, dataset: OfflineDataset, config: PretrainingConfig, steps: Sequence[int]
) -> list[int]:
    """Those of ``steps`` at which the store holds no checkpoint, or a damaged one."""
    found, _ = _look(store.folder(dataset.meta.key, model_identity(dataset, config)), steps)
    for checkpoint in found.values():
        mark_used(checkpoint)
    return sorted(set(steps) - set(found))


def _look(folder: Path, steps: Sequence[int]) -> tuple[dict[int, ASMCheckpoint], bool]:
    """The undamaged checkpoints at ``steps``, and whether there are damaged ones."""
    there = {step: checkpoint for step, checkpoint in checkpoints_in(folder).items() if step in steps}
    sound = {step: checkpoint for step, checkpoint in there.items() if damage_of(Path(checkpoint.path)) is None}
    return sound, len(sound) < len(there)


def _extend(
    extension: Extension,
    identity: dict[str, Any],
    dataset: OfflineDataset,
    config: PretrainingConfig,
    steps: Sequence[int],
    device: torch.device | None,
    on_step: Callable[[int, float], None] | None,
    on_checkpoint: Callable[[ASMCheckpoint], None] | None,
) -> None:
    """Train the missing ``steps``, each from the nearest earlier state, and damaged ones on the way again."""
    missing = {step for step in steps if extension.sound(step) is None}
    if not missing:
        return
    pretraining = config.begin(dataset, device)
    keep = _keeper(extension, pretraining, on_step)
    reached = -1
    while missing:
        start = extension.nearest(min(missing), above=reached)
        if start:
            pretraining.load(start.path)
        missing |= {step for step in extension.quarantined if pretraining.step < step < max(missing)}
        extension.quarantined.clear()
        reached = min(missing)
        pretraining.train(reached, keep)
        made = add_checkpoint(extension, identity, dataset, pretraining)
        missing.remove(reached)
        if on_checkpoint:
            on_checkpoint(made)
    extension.drop_progress(reached + 1)


_KEEP_EVERY = 30.0
"""Seconds of pretraining that are lost at most when the process is killed."""
_CHECK_EVERY = 5.0
"""Seconds for which a pretraining continues at most after another process has taken its lease."""


def _keeper(
    extension: Extension, pretraining: Pretraining, on_step: Callable[[int, float], None] | None
) -> Callable[[int, float], None]:
    """``on_step``, which also checks the lease every few seconds and saves the state every half minute."""
    kept = checked = time.monotonic()

    def keep(step: int, loss: float) -> None:
        nonlocal kept, checked
        now = time.monotonic()
        if now - kept > _KEEP_EVERY:
            extension.keep_progress(step, pretraining.save)
            kept = checked = time.monotonic()
        elif now - checked > _CHECK_EVERY:
            extension.check()
            checked = now
        if on_step:
            on_step(step, loss)

    return keep


def add_checkpoint(
    extension: Extension, identity: dict[str, Any], dataset: OfflineDataset, pretraining: Pretraining
) -> ASMCheckpoint:
    """Validate the model of ``pretraining`` and add it to the store."""
    validation = asdict(pretraining.validate())
    record = ASMCheckpoint(
        path="",
        key=extension.folder.name,
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
    return extension.add(record, pretraining.save)
