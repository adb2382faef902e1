"""Maintenance of the store: find damaged checkpoints and free what is no longer needed."""

import re
import shutil
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from spin_rl.errors import UserError
from spin_rl.platform.asm_store.digests import damage_of, quarantine
from spin_rl.platform.asm_store.extension import LEASE
from spin_rl.platform.asm_store.store import ASMStore, asm_root, read_checkpoint
from spin_rl.platform.common.leases import Lease

_DAY = 24 * 3600.0


class Verification(NamedTuple):
    """Result of verifying a checkpoint."""

    path: Path
    damage: str | None  # None: intact
    moved_to: Path | None  # new path of a damaged checkpoint, if it was moved aside


def checkpoint_folders(store: ASMStore) -> list[Path]:
    """Folders of all checkpoints, readable or not."""
    return sorted(path for path in store.root.glob("**/step-*") if path.is_dir())


def verify(folders: Iterable[Path]) -> Iterator[Verification]:
    """Compare checkpoints with their digests and move damaged ones aside, unless their model is being extended."""
    for folder in folders:
        damage, moved_to = _damage(folder), None
        if damage and (lease := _lease(folder.parent)):
            with lease:
                if damage := _damage(folder):  # the previous holder of the lease may have made it again
                    moved_to = quarantine(folder, damage)
        yield Verification(folder, damage, moved_to)


def _lease(model: Path) -> Lease | None:
    """The lease on a model, or None if another process holds it; UserError if the storage cannot be written to."""
    lease = Lease(model / LEASE)
    try:
        return lease if lease.try_acquire() else None
    except OSError as error:
        raise UserError(f"{model} cannot be written to ({error}): nothing in it can be moved or deleted.") from error


def _damage(folder: Path) -> str | None:
    if damage := damage_of(folder):
        return damage
    try:
        read_checkpoint(folder)
    except UserError:
        return "checkpoint.json cannot be read"
    return None


@dataclass(frozen=True)
class StoredFolder:
    """A folder in the store, its size and the reason to keep it."""

    path: Path
    size: int  # bytes
    days: float  # since it was made or, for a checkpoint, last used
    kept_for: str  # the sweeps that need it, or "age"; empty if it can be deleted at no cost but the time to make it


def survey(storage: Path, days: float) -> list[StoredFolder]:
    """All folders of a storage's model store, and whether they are needed.

    A checkpoint is needed if a sweep in the storage started a policy from it, or if it was made or used in the last
    ``days``: a sweep marks its models as used before its first trial.

    Raises:
        UserError: a trial's record cannot be read, so it is unknown which checkpoint the trial needs.
    """
    referenced = _referenced(storage)
    found = []
    for pattern in ("step-*", "damaged-*", ".progress-*", ".making-*"):
        for path in sorted(path for path in asm_root(storage).glob(f"**/{pattern}") if path.is_dir()):
            files = [file.stat() for file in path.iterdir()]
            age = (time.time() - max([path.stat().st_mtime, *(file.st_mtime for file in files)])) / _DAY
            sweeps = sorted(referenced[path.parent.name, path.name])
            kept_for = ", ".join(sweeps) or ("age" if age < days else "")
            found.append(StoredFolder(path, sum(file.st_size for file in files), age, kept_for))
    return found


def free(folders: Iterable[StoredFolder]) -> list[StoredFolder]:
    """Delete folders that ``survey`` found, except those of models being extended; returns the deleted ones."""
    deleted = []
    for folder in folders:
        if lease := _lease(folder.path.parent):
            with lease:
                # renamed first, so that a half-deleted folder is never taken for a checkpoint
                renamed = folder.path.rename(folder.path.with_name(f".making-freed-{folder.path.name}"))
                shutil.rmtree(renamed)
            deleted.append(folder)
    return deleted


def _referenced(storage: Path) -> defaultdict[tuple[str, str], set[str]]:
    """The sweeps that refer to a checkpoint, by key of its model and name of its folder: they survive a move."""
    names: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for record in storage.glob("*/trials/*/trial.json"):
        try:
            text = record.read_text()
        except (OSError, ValueError) as error:
            raise UserError(
                f"{record} cannot be read ({error}), so it is unknown which model that trial needs: fix or delete it."
            ) from error
        for key, name in re.findall(r"([0-9a-f]{16})/(step-\d{9})", text):
            names[key, name].add(record.parents[2].name)
    return names
