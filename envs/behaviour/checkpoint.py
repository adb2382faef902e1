"""The checkpoint of a behaviour training: new files are written beside the old, and one small file says which count.

checkpoint/progress.json             round of the checkpoint, written last
checkpoint/state-<round>.safetensors networks and optimisers
checkpoint/replay/<round>.npz        each round in the replay memory, written once
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from safetensors.torch import load_file, save_file
from torch import Tensor

from spin_rl.envs.behaviour.replay import RoundReplay
from spin_rl.errors import UserError


@contextmanager
def sole_training(folder: Path) -> Iterator[None]:
    """Keep other processes from training in ``folder``; the lock is released when this process ends, even if killed.

    Raises:
        UserError: another process is training there.
    """
    try:
        lock = FileLock(folder / "training.lock").acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"Another process is training in {folder}; wait until it ends, or use another --seed."
        ) from None
    with lock:
        yield


class Checkpoints:
    """Writes and reads the checkpoint of the training in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "checkpoint"
        self._kept = 0  # rounds with replay files that belong to a complete checkpoint

    def round(self) -> int:
        """Round of the checkpoint; 0 if there is none."""
        path = self._folder / "progress.json"
        return int(json.loads(path.read_text())["round"]) if path.exists() else 0

    def state(self) -> Path:
        """Path of the checkpoint's networks and optimisers; the file is missing if there is no checkpoint."""
        return self._state(self.round())

    def write(self, round_: int, seconds: float, tensors: dict[str, Tensor], replay: RoundReplay) -> None:
        """Write the checkpoint of a round. A kill at any time leaves this one or the previous one valid."""
        (self._folder / "replay").mkdir(parents=True, exist_ok=True)
        stored = replay.stored_rounds()
        for number, arrays in stored.items():
            path = self._folder / "replay" / f"{number:06d}.npz"
            if number >= self._kept:  # an existing file of such a round was written by a process that was killed
                np.savez(_unfinished(path), **arrays)  # type: ignore[arg-type]
                _finish(path)
        state, progress = self._state(round_), self._folder / "progress.json"
        save_file(tensors, _unfinished(state))
        _finish(state)
        _unfinished(progress).write_text(json.dumps({"round": round_, "seconds": seconds}))
        _finish(progress)
        self._kept = round_
        for path in self._folder.glob("state-*.safetensors"):
            if path != state:
                path.unlink()
        for path in (self._folder / "replay").glob("[0-9]*.npz"):
            if int(path.stem) < min(stored):
                path.unlink()

    def read(self, replay: RoundReplay) -> tuple[int, float, dict[str, Tensor]] | None:
        """Restore the replay memory and return round, seconds and tensors; None if there is no checkpoint."""
        round_ = self.round()
        if not round_:
            return None
        progress = json.loads((self._folder / "progress.json").read_text())
        tensors = load_file(self._state(round_))
        for number in range(max(0, round_ - replay.capacity), round_):
            with np.load(self._folder / "replay" / f"{number:06d}.npz", allow_pickle=False) as arrays:
                replay.restore_round(number, dict(arrays))
        self._kept = round_
        return round_, float(progress["seconds"]), tensors

    def _state(self, round_: int) -> Path:
        return self._folder / f"state-{round_:06d}.safetensors"


def _unfinished(path: Path) -> Path:
    return path.with_name(f"new-{path.name}")


def _finish(path: Path) -> None:
    """Rename a written file to its final name, once it is on the disk."""
    with _unfinished(path).open("rb") as file:
        os.fsync(file.fileno())
    _unfinished(path).replace(path)
