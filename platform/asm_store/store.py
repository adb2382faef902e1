"""The store of action structure models: a checkpoint is addressed by (dataset digest, configuration, seed, step).

    <root>/<task>-<bins>/<level>-v<n>/<key>/identity.json      what the key stands for
    <root>/<task>-<bins>/<level>-v<n>/<key>/step-000008000/    weights, state to go on from, checkpoint.json, SHA256SUMS
    <root>/<task>-<bins>/<level>-v<n>/<key>/damaged-000008000-...    one whose digests were not those of its files

A checkpoint folder appears whole or not at all: it is written beside its place and renamed. How models are added to is
in ``asm_store_extension``. The root is a folder that all hosts mount: object stores cannot rename and are refused.
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
    """A stored action structure model and what it cost."""

    path: str
    key: str
    task: str
    bins: int
    dataset_digest: str
    step: int
    epoch: float
    pretrain_seconds: float  # of this model from its first step on, whoever made them and when
    validation_loss: float
    validation_accuracy: float
    full_loss: float  # everything masked
    full_accuracy: float
    objective_loss: float | None = None  # what was descended, on held-out episodes


def asm_root(storage: Path) -> Path:
    """Where a storage keeps its action structure models.

    Raises:
        UserError: the storage is no folder.
    """
    if url := re.search(r"(?:^|/)(\w+):/+(.*)", str(storage)):
        raise UserError(
            f"Action structure models are stored in a folder that all hosts mount, not at {url[1]}://{url[2]}: "
            "name such a folder as --storage."
        )
    return storage / "asm"


class ASMStore:
    """Checkpoints of one storage root."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def folder(self, task_key: str, identity: Mapping[str, Any]) -> Path:
        """Where the checkpoints of ``identity`` (dataset digest, configuration and seed) lie."""
        return self.root / task_key / identity_key(identity)

    def place(self, task_key: str, identity: Mapping[str, Any], step: int) -> Path:
        """Where the checkpoint of one step lies, or will lie."""
        return self.folder(task_key, identity) / CHECKPOINT.format(step)

    def checkpoints(self, folder: Path) -> dict[int, ASMCheckpoint]:
        """Whole checkpoints of a model by step; one whose record cannot be read counts as missing."""
        return checkpoints_in(folder)

    def all(self) -> list[ASMCheckpoint]:
        """Every whole checkpoint, by task, model and step."""
        folders = sorted({path.parent.parent for path in self.root.glob("**/step-*/checkpoint.json")})
        return [found for folder in folders for _, found in sorted(self.checkpoints(folder).items())]

    def find(self, reference: str) -> ASMCheckpoint:
        """The checkpoint that a user means: its folder, ``KEY/STEP``, or ``KEY`` for a model's last one.

        The beginning of a key will do where it is the only one.

        Raises:
            UserError: there is no such checkpoint, or more than one model is meant.
        """
        if Path(reference, "checkpoint.json").exists():
            return read_checkpoint(Path(reference).absolute())
        key, _, step = reference.partition("/")
        found = [checkpoint for checkpoint in self.all() if key and checkpoint.key.startswith(key)]
        keys = sorted({checkpoint.key for checkpoint in found})
        if len(keys) > 1:
            raise UserError(f"'{key}' begins the keys of {len(keys)} models ({', '.join(keys)}): give more of it.")
        if step:
            found = [checkpoint for checkpoint in found if str(checkpoint.step) == step]
        if not found:
            raise UserError(
                f"'{reference}' is neither the folder of a checkpoint nor one in {self.root}: "
                "'spin-rl asm list' shows what there is."
            )
        return found[-1]

    def identity(self, checkpoint: ASMCheckpoint) -> dict[str, Any]:
        """What the model of ``checkpoint`` is addressed by."""
        values: dict[str, Any] = json.loads((Path(checkpoint.path).parent / "identity.json").read_text())
        return values


def checkpoints_in(folder: Path) -> dict[int, ASMCheckpoint]:
    """Whole checkpoints of the model in ``folder`` by step; one whose record cannot be read counts as missing."""
    found = {}
    for path in sorted(folder.glob("step-*")):
        with suppress(UserError):
            checkpoint = read_checkpoint(path)
            found[checkpoint.step] = checkpoint
    return found


def read_checkpoint(path: Path) -> ASMCheckpoint:
    """The record of the checkpoint in ``path``; UserError where there is none."""
    try:
        return ASMCheckpoint(**{**json.loads((path / "checkpoint.json").read_text()), "path": str(path)})
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} is not a checkpoint of an action structure model; 'spin-rl pretrain TASK LEVEL' makes one "
            "and prints its path."
        ) from error


def mark_used(checkpoint: ASMCheckpoint) -> None:
    """Note that a checkpoint is in use, which keeps it from being freed for a while."""
    with suppress(OSError):  # of another user, or on a medium that is read only
        os.utime(checkpoint.path)
