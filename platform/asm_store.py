"""The store of action structure models: a checkpoint is addressed by (dataset digest, configuration, seed, step).

    <root>/<task>-<bins>/<key>/identity.json          what the key stands for
    <root>/<task>-<bins>/<key>/step-000008000/        weights, state to go on from, checkpoint.json (written last)

A checkpoint folder appears whole or not at all: it is written beside its place and renamed. Who extends a model holds a
lock on it; who comes second waits and finds what was made.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from spin_rl.envs import UserError

_NAME = "step-{:09d}"


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


class ASMStore:
    """Checkpoints of one storage root."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def folder(self, task_key: str, identity: Mapping[str, Any]) -> Path:
        """Where the checkpoints of ``identity`` (dataset digest, configuration and seed) lie."""
        return self.root / task_key / identity_key(identity)

    def place(self, task_key: str, identity: Mapping[str, Any], step: int) -> Path:
        """Where the checkpoint of one step lies, or will lie."""
        return self.folder(task_key, identity) / _NAME.format(step)

    def checkpoints(self, folder: Path) -> dict[int, ASMCheckpoint]:
        """Whole checkpoints of a model by step."""
        found = {}
        for path in sorted(folder.glob("step-*/checkpoint.json")):
            checkpoint = ASMCheckpoint(**{**json.loads(path.read_text()), "path": str(path.parent)})
            found[checkpoint.step] = checkpoint
        return found

    @contextmanager
    def extending(self, folder: Path, identity: Mapping[str, Any]) -> Iterator[None]:
        """Hold the right to add checkpoints to a model; waits for whoever has it."""
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            for left_over in folder.glob(".making-*"):
                shutil.rmtree(left_over, ignore_errors=True)
            if not (folder / "identity.json").exists():
                _write_atomically(folder / "identity.json", json.dumps(dict(identity), indent=2, default=list))
            yield

    def add(self, folder: Path, checkpoint: ASMCheckpoint, write: Callable[[Path], None]) -> ASMCheckpoint:
        """Let ``write`` fill a folder with a checkpoint's files, then put it in its place."""
        place = folder / _NAME.format(checkpoint.step)
        making = folder / f".making-{checkpoint.step}-{os.getpid()}"
        making.mkdir()
        try:
            write(making)
            record = {**asdict(checkpoint), "path": ""}
            (making / "checkpoint.json").write_text(json.dumps(record, indent=2))
            making.rename(place)
        except OSError as error:
            shutil.rmtree(making, ignore_errors=True)
            raise UserError(
                f"The checkpoint {place} could not be written ({error}); free space and run again."
            ) from error
        return ASMCheckpoint(**{**asdict(checkpoint), "path": str(place)})


def read_checkpoint(path: Path) -> ASMCheckpoint:
    """The record of the checkpoint in ``path``; UserError where there is none."""
    try:
        return ASMCheckpoint(**{**json.loads((path / "checkpoint.json").read_text()), "path": str(path)})
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} is not a checkpoint of an action structure model; 'spin-rl pretrain TASK LEVEL' makes one "
            "and prints its path."
        ) from error


def identity_key(identity: Mapping[str, Any]) -> str:
    """A short name that differs wherever ``identity`` does."""
    canonical = json.dumps(dict(identity), sort_keys=True, default=list)
    return hashlib.blake2b(canonical.encode(), digest_size=8).hexdigest()


def _write_atomically(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}-{os.getpid()}")
    beside.write_text(text)
    beside.rename(path)
