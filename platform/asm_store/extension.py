"""Adding checkpoints to a model in the store: under its lease, atomically, and never based on a damaged checkpoint."""

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError

from spin_rl.errors import UserError
from spin_rl.platform.asm_store.digests import damage_of, quarantine, write_digests
from spin_rl.platform.asm_store.store import CHECKPOINT, ASMCheckpoint, checkpoints_in, read_checkpoint
from spin_rl.platform.common.leases import Lease

logger = logging.getLogger(__name__)

LEASE = ".lease"
_PROGRESS = ".progress-{}"


class SavedState(NamedTuple):
    """A training state to resume from."""

    step: int
    path: Path


class Extension:
    """The right to add checkpoints to the model in ``folder``; every write first checks that the lease is still held.

    Raises:
        LeaseLostError: another process has taken over the extension of the model.
    """

    def __init__(self, folder: Path, lease: Lease) -> None:
        self.folder = folder
        self.quarantined: set[int] = set()  # steps of checkpoints that were moved aside
        self._lease = lease

    def check(self) -> None:
        """Raise LeaseLostError if another process has taken over."""
        self._lease.check()

    def sound(self, step: int) -> ASMCheckpoint | None:
        """The checkpoint of a step, or None; a damaged one is moved aside."""
        place = self.folder / CHECKPOINT.format(step)
        if self._is_sound(place):
            return checkpoints_in(self.folder).get(step)
        self.quarantined.add(step)
        return None

    def nearest(self, step: int, above: int) -> SavedState | None:
        """The latest state from which ``step`` can be reached, if it is later than step ``above``."""
        states = [SavedState(found, Path(checkpoint.path)) for found, checkpoint in checkpoints_in(self.folder).items()]
        states += [SavedState(int(path.name.rsplit("-", 1)[1]), path) for path in self._progress()]
        for state in sorted(states, reverse=True):
            if above < state.step <= step:
                if self._is_sound(state.path):
                    return state
                if not state.path.name.startswith("."):
                    self.quarantined.add(state.step)
        return None

    def add(self, checkpoint: ASMCheckpoint, write: Callable[[Path], None]) -> ASMCheckpoint:
        """Let ``write`` write the files of a checkpoint into a folder, then publish it; returns it with its path."""
        place = self.folder / CHECKPOINT.format(checkpoint.step)

        def write_all(making: Path) -> None:
            write(making)
            (making / "checkpoint.json").write_text(json.dumps({**asdict(checkpoint), "path": ""}, indent=2))

        if place.exists() and self._is_sound(place):
            return read_checkpoint(place)  # written by a process that held the lease in between
        self._publish(write_all, checkpoint.step, place)
        return replace(checkpoint, path=str(place))

    def keep_progress(self, step: int, write: Callable[[Path], None]) -> None:
        """Let ``write`` save an unfinished pretraining at ``step``; it replaces earlier ones."""
        self._publish(write, step, self.folder / _PROGRESS.format(step))
        self.drop_progress(step)

    def drop_progress(self, before: int) -> None:
        """Delete unfinished pretrainings saved before a step."""
        for path in self._progress():
            if int(path.name.rsplit("-", 1)[1]) < before:
                shutil.rmtree(path, ignore_errors=True)

    def _progress(self) -> list[Path]:
        return list(self.folder.glob(_PROGRESS.format("*")))

    def _is_sound(self, path: Path) -> bool:
        """Whether ``path`` is intact or does not exist; a damaged one is moved aside."""
        if not path.exists():
            return True
        damage = damage_of(path)
        if damage is None and not path.name.startswith("."):
            try:
                read_checkpoint(path)
            except UserError:
                damage = "checkpoint.json cannot be read"
        if damage is not None:
            self.check()
            quarantine(path, damage)
        return damage is None

    def _publish(self, write: Callable[[Path], None], step: int, place: Path) -> None:
        self.check()
        making = self.folder / f".making-{step}-{os.getpid()}"
        try:
            making.mkdir()
            write(making)
            write_digests(making)
            self.check()  # as late as possible: only one system call follows
            making.rename(place)
        except (OSError, SafetensorError) as error:  # safetensors wraps errors of the system
            shutil.rmtree(making, ignore_errors=True)
            self.check()  # a successor deletes unfinished folders
            raise UserError(
                f"The checkpoint {place} could not be written ({error}); free some space and run the command again."
            ) from error
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise


@contextmanager
def extending(
    folder: Path, identity: Mapping[str, Any], unless: Callable[[], bool] | None = None
) -> Iterator[Extension | None]:
    """Hold the right to add checkpoints to the model in ``folder``; waits while another process holds it.

    Args:
        folder: of the model; created if it does not exist.
        identity: what the model is addressed by.
        unless: checked while waiting; as soon as it is true, waiting stops and None is yielded.

    Raises:
        UserError: the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lease = Lease(folder / LEASE)
        acquired = lease.acquire(unless)
    except OSError as error:
        raise UserError(f"{folder} cannot be written to ({error}); fix that or choose another --storage.") from error
    if not acquired:
        yield None
        return
    with lease:
        for leftover in folder.glob(".making-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        if not (folder / "identity.json").exists():
            beside = folder / f".identity.json-{os.getpid()}"
            beside.write_text(json.dumps(dict(identity), indent=2, default=list))
            beside.rename(folder / "identity.json")
        yield Extension(folder, lease)
