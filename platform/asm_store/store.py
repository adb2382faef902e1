"""The store of pretrained models, action structure models and clones.

A checkpoint is addressed by (dataset digest, configuration, seed, step):

    <root>/<task>-<bins>/<level>-v<n>/<key>/
        identity.json            what the key stands for
        step-000008000/          weights, training state, checkpoint.json, SHA256SUMS
        damaged-000008000-.../   a checkpoint that did not match its digests

A checkpoint folder appears atomically: it is written under another name and renamed. ``extension`` adds checkpoints.
The root is a folder that all hosts mount: object stores cannot rename folders and are refused.
"""

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spin_rl.errors import UserError
from spin_rl.platform.common.identity import identity_key

CHECKPOINT = "step-{:09d}"


@dataclass(frozen=True)
class ASMCheckpoint:
    """A stored model, of whichever kind, and what it cost.

    A clone sees the state alone: its losses and accuracies under both names are the same.
    """

    path: str
    key: str
    task: str
    bins: int
    dataset_digest: str
    step: int
    epoch: float
    pretrain_seconds: float  # for all steps from the first, in whichever processes
    validation_loss: float
    validation_accuracy: float
    full_loss: float  # with all sub-actions masked
    full_accuracy: float
    objective_loss: float  # the training objective, on held-out episodes


def asm_root(storage: Path) -> Path:
    """The folder of a storage's action structure models.

    Raises:
        UserError: the storage is not a folder.
    """
    if url := re.search(r"(?:^|/)(\w+):/+(.*)", str(storage)):
        raise UserError(
            f"Action structure models are stored in a folder that all hosts mount, not at {url[1]}://{url[2]}: "
            "use such a folder as --storage."
        )
    return storage / "asm"


class ASMStore:
    """Checkpoints of one storage root."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def folder(self, task_key: str, identity: Mapping[str, Any]) -> Path:
        """Folder of the checkpoints of ``identity`` (dataset digest, configuration and seed)."""
        return self.root / task_key / identity_key(identity)

    def place(self, task_key: str, identity: Mapping[str, Any], step: int) -> Path:
        """Folder of the checkpoint of one step, whether it exists or not."""
        return self.folder(task_key, identity) / CHECKPOINT.format(step)

    def checkpoints(self, folder: Path) -> dict[int, ASMCheckpoint]:
        """Complete checkpoints of a model by step; one with an unreadable record counts as missing."""
        return checkpoints_in(folder)

    def all(self) -> list[ASMCheckpoint]:
        """All complete checkpoints, sorted by task, model and step."""
        folders = sorted({path.parent.parent for path in self.root.glob("**/step-*/checkpoint.json")})
        return [found for folder in folders for _, found in sorted(self.checkpoints(folder).items())]

    def find(self, reference: str) -> ASMCheckpoint:
        """The checkpoint for a user's reference: its folder, ``KEY/STEP``, or ``KEY`` for the last one of a model.

        A key may be abbreviated as long as it stays unique.

        Raises:
            UserError: no such checkpoint, or an ambiguous key.
        """
        if Path(reference, "checkpoint.json").exists():
            return read_checkpoint(Path(reference).absolute())
        key, _, step = reference.partition("/")
        found = [checkpoint for checkpoint in self.all() if key and checkpoint.key.startswith(key)]
        keys = sorted({checkpoint.key for checkpoint in found})
        if len(keys) > 1:
            raise UserError(f"'{key}' matches {len(keys)} models ({', '.join(keys)}): give more of the key.")
        if step:
            found = [checkpoint for checkpoint in found if str(checkpoint.step) == step]
        if not found:
            raise UserError(
                f"'{reference}' is neither the folder of a checkpoint nor a checkpoint in {self.root}: "
                "'spin-rl asm list' lists those."
            )
        return found[-1]

    def identity(self, checkpoint: ASMCheckpoint) -> dict[str, Any]:
        """What the model of ``checkpoint`` is addressed by."""
        values: dict[str, Any] = json.loads((Path(checkpoint.path).parent / "identity.json").read_text())
        return values


def checkpoints_in(folder: Path) -> dict[int, ASMCheckpoint]:
    """Complete checkpoints of the model in ``folder`` by step; one with an unreadable record counts as missing."""
    found = {}
    for path in sorted(folder.glob("step-*")):
        with suppress(UserError):
            checkpoint = read_checkpoint(path)
            found[checkpoint.step] = checkpoint
    return found


def read_checkpoint(path: Path) -> ASMCheckpoint:
    """The record of the checkpoint in ``path``.

    Raises:
        UserError: no record, or one that cannot be read.
    """
    try:
        return ASMCheckpoint(**{**json.loads((path / "checkpoint.json").read_text()), "path": str(path)})
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} is not a checkpoint of an action structure model; 'spin-rl pretrain TASK LEVEL' makes one "
            "and prints its path."
        ) from error


def mark_used(checkpoint: ASMCheckpoint) -> None:
    """Record that a checkpoint is in use, which protects it from ``free`` for a while."""
    with suppress(OSError):  # another user's checkpoint, or a read-only file system
        os.utime(checkpoint.path)
