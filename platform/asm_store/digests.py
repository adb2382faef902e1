"""Digests of stored checkpoints, and quarantine of damaged ones.

``SHA256SUMS`` beside the files of a checkpoint holds their digests in the format of ``sha256sum``, so that
``sha256sum -c SHA256SUMS`` checks them too.
"""

import hashlib
import logging
from pathlib import Path
from uuid import uuid4

from spin_rl.errors import UserError

logger = logging.getLogger(__name__)

SUMS = "SHA256SUMS"
DAMAGED = "damaged-{}-{}"


def write_digests(folder: Path) -> None:
    """Record the digests of all files in ``folder``."""
    lines = [f"{_digest(path)}  {path.name}" for path in sorted(folder.iterdir()) if path.name != SUMS]
    (folder / SUMS).write_text("\n".join(lines) + "\n")


def has_digests(folder: Path) -> bool:
    """Whether ``folder`` holds digests, as checkpoints of the store do."""
    return (folder / SUMS).exists()


def damage_of(folder: Path, *names: str) -> str | None:
    """Description of what is wrong with the files in ``folder``, or only with ``names``; None if they are intact."""
    if not has_digests(folder):
        return f"{SUMS} is missing"
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
            return f"{name} has digest {found[:12]}, not {digest[:12]} as written"
    return None


def quarantine(folder: Path, why: str) -> Path:
    """Move a damaged checkpoint aside, so that it can be made again and still be inspected; returns its new path.

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


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
