"""Whether a stored checkpoint is still what was written: its digests, and what happens to one that is not.

``SHA256SUMS`` beside a checkpoint's files holds their digests in the form of ``sha256sum``, which checks it too.
Checkpoints that were written before there were digests stay readable; of theirs a file that was cut off is noticed.
"""

import hashlib
import logging
from pathlib import Path
from uuid import uuid4

from safetensors import SafetensorError, safe_open

from spin_rl.errors import UserError

logger = logging.getLogger(__name__)

SUMS = "SHA256SUMS"
DAMAGED = "damaged-{}-{}"


def write_digests(folder: Path) -> None:
    """Record the digests of all files in ``folder``."""
    lines = [f"{_digest(path)}  {path.name}" for path in sorted(folder.iterdir()) if path.name != SUMS]
    (folder / SUMS).write_text("\n".join(lines) + "\n")


def has_digests(folder: Path) -> bool:
    """Whether the files in ``folder`` can be told from others of the same length."""
    return (folder / SUMS).exists()


def damage_of(folder: Path, *names: str) -> str | None:
    """What is wrong with the files in ``folder``, or with those called ``names``; None where nothing is."""
    if not has_digests(folder):
        return _cut_off(folder)
    try:
        lines = [line.split("  ", 1) for line in (folder / SUMS).read_text().splitlines()]
        recorded = {name: digest for digest, name in lines}
    except ValueError:
        return f"{SUMS} cannot be read"
    for name, digest in recorded.items():
        if names and name not in names:
            continue
        try:
            found = _digest(folder / name)
        except OSError as error:
            return f"{name}: {error.strerror}"
        if found != digest:
            return f"{name} has digest {found[:12]}, {digest[:12]} was written"
    return None


def quarantine(folder: Path, why: str) -> Path:
    """Move a damaged checkpoint aside, so that it is made again and can still be looked at.

    Raises:
        UserError: it cannot be moved.
    """
    aside = folder.with_name(DAMAGED.format(folder.name.strip(".").rsplit("-", 1)[1], uuid4().hex[:8]))
    try:
        folder.rename(aside)
    except OSError as error:
        raise UserError(
            f"{folder} is damaged ({why}) and cannot be moved aside ({error}): move or delete it."
        ) from error
    logger.warning("%s is damaged (%s): moved aside to %s.", folder, why, aside.name)
    return aside


def _cut_off(folder: Path) -> str | None:
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, "np"):
                pass
        except (OSError, SafetensorError) as error:
            return f"{path.name}: {error}"
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
