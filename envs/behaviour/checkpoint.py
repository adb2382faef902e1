"""The checkpoint of a behaviour training: what is new is written beside the old, and one small file says what counts.

checkpoint/progress.json             the round that the checkpoint is of, written last
checkpoint/state-<round>.safetensors networks and optimiser
checkpoint/replay/<round>.npz        each round held in the replay memory, written once
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
    """Nobody else trains in ``folder`` meanwhile; the lock ends with the process, however that ends.

    Raises:
        UserError: somebody does.
    """
    try:
        lock = FileLock(folder / "training.lock").acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"Another process trains in {folder}; wait for its end, or train beside it with another --seed."
        ) from None
    with lock:
        yield


class Checkpoints:
    """Writes and reads the checkpoint of the training in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "checkpoint"
        self._kept = 0  # rounds whose data lies there for good

    def round(self) -> int:
        """The round that the checkpoint is of; 0 where there is none."""
        path = self._folder / "progress.json"
        return int(json.loads(path.read_text())["round"]) if path.exists() else 0

    def state(self) -> Path:
        """The file of networks and optimiser of the checkpoint; it is not there where there is none."""
        return self._state(self.round())

    def write(self, round_: int, seconds: float, tensors: dict[str, Tensor], replay: RoundReplay) -> None:
        """Make this the state to go on from; a kill at any time leaves this one or the last one."""
        (self._folder / "replay").mkdir(parents=True, exist_ok=True)
        held = replay.held()
        for number, arrays in held.items():
            path = self._folder / "replay" / f"{number:06d}.npz"
            if number >= self._kept:  # what lies there under such a number is of a sitting that was killed
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
            if int(path.stem) < min(held):
                path.unlink()

    def read(self, replay: RoundReplay) -> tuple[int, float, dict[str, Tensor]] | None:
        """Round, seconds and tensors, with the memory filled; None where there is no checkpoint."""
        round_ = self.round()
        if not round_:
            return None
        progress = json.loads((self._folder / "progress.json").read_text())
        tensors = load_file(self._state(round_))
        for number in range(max(0, round_ - replay.capacity), round_):
            with np.load(self._folder / "replay" / f"{number:06d}.npz", allow_pickle=False) as arrays:
                replay.put(number, dict(arrays))
        self._kept = round_
        return round_, float(progress["seconds"]), tensors

    def _state(self, round_: int) -> Path:
        return self._folder / f"state-{round_:06d}.safetensors"


def _unfinished(path: Path) -> Path:
    return path.with_name(f"new-{path.name}")


def _finish(path: Path) -> None:
    """Give a file that is written its name, once it is on the disk."""
    with _unfinished(path).open("rb") as file:
        os.fsync(file.fileno())
    _unfinished(path).replace(path)
