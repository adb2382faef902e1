"""Looking after the store: checkpoints that are damaged, and what nobody needs any more."""

import re
import shutil
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from spin_rl.errors import UserError
from spin_rl.platform.asm_store.digests import damage_of, has_digests, quarantine
from spin_rl.platform.asm_store.extension import LEASE
from spin_rl.platform.asm_store.store import ASMStore, asm_root, read_checkpoint
from spin_rl.platform.common.leases import Lease

_DAY = 24 * 3600.0


class Finding(NamedTuple):
    """What a look at a checkpoint gave."""

    path: Path
    damage: str | None  # None: it is what was written, as far as one can tell
    recorded: bool  # whether there are digests to tell by
    aside: Path | None  # where it lies now, if it was moved


def checkpoint_folders(store: ASMStore) -> list[Path]:
    """The folders of all checkpoints, readable or not."""
    return sorted(path for path in store.root.glob("**/step-*") if path.is_dir())


def verify(folders: Iterable[Path]) -> Iterator[Finding]:
    """Compare checkpoints with their digests and move those that differ aside, unless their model is being extended."""
    for folder in folders:
        damage, aside = _damage(folder), None
        if damage and (lease := _lease(folder.parent)):
            with lease:
                if damage := _damage(folder):  # who held it until now may have made it again
                    aside = quarantine(folder, damage)
        yield Finding(folder, damage, has_digests(aside or folder), aside)


def _lease(model: Path) -> Lease | None:
    """The lease on a model, None where somebody else has it; UserError where the storage cannot be written to."""
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
    """Something in the store that takes up space."""

    path: Path
    size: int  # bytes
    days: float  # since it was made or, for a checkpoint, last used
    kept_for: str  # why it stays; empty where nothing is lost with it but the time to make it again


def survey(storage: Path, days: float) -> list[StoredFolder]:
    """Everything in a storage's model store, and whether it is needed.

    Needed is what a sweep in the storage started a policy from, and what was made or used in the last ``days``:
    a sweep that has not come to a trial yet has used its model.

    Raises:
        UserError: a trial's record cannot be read, so that nobody knows what it needs.
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
    """Delete what ``survey`` found; returns what went: models that are being extended are left alone."""
    gone = []
    for found in folders:
        if lease := _lease(found.path.parent):
            with lease:
                # first out of the way, so that no half of it is ever taken for a checkpoint
                going = found.path.rename(found.path.with_name(f".making-freed-{found.path.name}"))
                shutil.rmtree(going)
            gone.append(found)
    return gone


def _referenced(storage: Path) -> defaultdict[tuple[str, str], set[str]]:
    """The sweeps that name a checkpoint, by its model's key and its folder's name: storages move, these two stay."""
    names: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for record in storage.glob("*/trials/*/trial.json"):
        try:
            text = record.read_text()
        except (OSError, ValueError) as error:
            raise UserError(
                f"{record} cannot be read ({error}), so nobody knows which model that trial needs: mend or delete it."
            ) from error
        for key, name in re.findall(r"([0-9a-f]{16})/(step-\d{9})", text):
            names[key, name].add(record.parents[2].name)
    return names
