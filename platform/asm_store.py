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
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock
from safetensors import SafetensorError

from spin_rl.envs import UserError

_NAME = "step-{:09d}"
_PROGRESS = ".progress-{}"


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
    """Where a storage keeps its action structure models."""
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
        return self.folder(task_key, identity) / _NAME.format(step)

    def checkpoints(self, folder: Path) -> dict[int, ASMCheckpoint]:
        """Whole checkpoints of a model by step; one whose record cannot be read counts as missing."""
        found = {}
        for path in sorted(folder.glob("step-*")):
            with suppress(UserError):
                checkpoint = read_checkpoint(path)
                found[checkpoint.step] = checkpoint
        return found

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
            return read_checkpoint(Path(reference))
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
            shutil.rmtree(place, ignore_errors=True)  # only what was not whole is made again
            making.rename(place)
        except (OSError, SafetensorError) as error:  # safetensors wraps what the system says
            shutil.rmtree(making, ignore_errors=True)
            raise UserError(
                f"The checkpoint {place} could not be written ({error}); free space and run again."
            ) from error
        return ASMCheckpoint(**{**asdict(checkpoint), "path": str(place)})

    def keep_progress(self, folder: Path, step: int, write: Callable[[Path], None]) -> None:
        """Let ``write`` save an unfinished pretraining at ``step``, in the place of the one saved before."""
        making = folder / f".making-{step}-{os.getpid()}"
        making.mkdir()
        write(making)
        making.rename(folder / _PROGRESS.format(step))
        self.drop_progress(folder, step)

    def progress(self, folder: Path) -> dict[int, Path]:
        """What ``keep_progress`` saved, by step."""
        return {int(path.name.rsplit("-", 1)[1]): path for path in folder.glob(_PROGRESS.format("*"))}

    def drop_progress(self, folder: Path, before: int | None = None) -> None:
        """Delete saved progress, all of it or what lies before a step."""
        for step, path in self.progress(folder).items():
            if before is None or step < before:
                shutil.rmtree(path, ignore_errors=True)


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
