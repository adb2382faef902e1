"""Import transitions from other formats as a dataset."""

import re
import shutil
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from spin_rl.envs.catalogue import nvec_of, tasks
from spin_rl.errors import UserError, unknown_name
from spin_rl.platform.datasets.build import Origin, build_dataset
from spin_rl.platform.datasets.metadata import DatasetMetadata
from spin_rl.platform.datasets.store import DatasetRoot, exclusive
from spin_rl.platform.exchange.rules import DEFAULT_RULES, ImportRules
from spin_rl.platform.exchange.transitions import Transitions, episodes_of
from spin_rl.platform.exchange.validation import filter_duplicates, validate_ends


class Spaces(NamedTuple):
    """The action and observation spaces of a task."""

    nvec: tuple[int, ...]
    observation_size: int


class Imported(NamedTuple):
    """A dataset that was imported or found."""

    metadata: DatasetMetadata
    location: str
    found: bool  # an equal one existed before
    left_out: int = 0  # duplicate episodes of the source


_MOST_CHOICES = int(np.iinfo(np.int16).max)
"""Maximum choices of a sub-action, because they are stored as int16."""


def spaces_of(task: str, bins: int, nvec: Sequence[int] | None = None, observation_size: int | None = None) -> Spaces:
    """The spaces of a task in the catalogue, or the given ones for a task that is not.

    Args:
        task: name of the task.
        bins: choices per action dimension.
        nvec: choices per sub-action (N,); needed for an unknown task.
        observation_size: length of an observation; needed for an unknown task.

    Raises:
        UserError: an unknown task without spaces, or spaces other than the task's.
    """
    given = Spaces(tuple(nvec or ()), observation_size or 0)
    if any(not 1 <= choices <= _MOST_CHOICES for choices in given.nvec):
        raise UserError(
            f"nvec {list(given.nvec)} is invalid: a sub-action has at least 1 choice and at most {_MOST_CHOICES:,}."
        )
    known = tasks().get((task, bins))
    if known is None:
        if not given.nvec or not given.observation_size:
            error = unknown_name("task", f"{task}-{bins}", sorted(each.key for each in tasks().values()))
            raise UserError(f"{error} For a task of your own, give --nvec and --observation-size.")
        return given
    env = known.make()
    try:
        space: Any = env.observation_space
        spaces = Spaces(nvec_of(env), int(np.prod(space.shape)))
    finally:
        env.close()
    if given.nvec not in ((), spaces.nvec) or given.observation_size not in (0, spaces.observation_size):
        raise UserError(
            f"{known.key} has nvec {list(spaces.nvec)} and {spaces.observation_size} observations, not the given ones."
        )
    return spaces


def import_dataset(
    batches: Iterable[Transitions],
    *,
    task: str,
    bins: int,
    level: str,
    spaces: Spaces,
    origin: str,
    root: str | Path | None,
    rules: ImportRules = DEFAULT_RULES,
) -> Imported:
    """Write transitions as the next version of a dataset, or find the version with the same content.

    Args:
        batches: in the order of the source.
        task: name of the task.
        bins: choices per action dimension; part of the dataset's name.
        level: name of the level: lower-case letters, digits and hyphens.
        spaces: of the task.
        origin: description of the source, for the metadata.
        root: location of datasets.
        rules: how to interpret the source.

    Raises:
        UserError: invalid names, invalid values (the message names the source and the row), rows out of order,
            duplicate episodes, no transitions, or the root cannot be written.
    """
    for what, name in (("task", task), ("level", level)):
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) or re.search(r"-v\d+$", name):
            raise UserError(
                f"'{name}' is not a valid {what} name: use lower-case letters, digits and hyphens, such as my-{what}."
            )
    place = DatasetRoot(root)
    parent: Path = place.local or place.scratch / "making"
    staging = parent / f"{task}-{bins}" / f".{level}-import-{uuid.uuid4().hex}"
    known = tasks().get((task, bins))
    valid = validate_ends(batches, rules, name=origin, endless=known is not None and not known.terminates)
    left_out: list[int] = []
    blocks = filter_duplicates(episodes_of(valid), rules.duplicates, name=origin, on_left_out=left_out.append)
    try:
        staging.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(staging.parent / f".{level}.lease") as lease:
            for leftover in staging.parent.glob(f".{level}-import-*"):  # of a process that was killed
                shutil.rmtree(leftover, ignore_errors=True)
            versions = place.versions(task, bins, level)
            metadata = build_dataset(
                staging,
                [(Origin(level, f"imported from {origin}", "", 0.0), blocks)],
                task=task,
                bins=bins,
                level=level,
                version=max(versions, default=0) + 1,
                nvec=spaces.nvec,
                observation_size=spaces.observation_size,
                requested_size=0,
                seed=0,
                reference_random=known.reference.random if known and known.reference.known else None,
                reference_expert=known.reference.expert if known and known.reference.known else None,
            )
            for version in versions:
                existing = place.read_metadata(f"{task}-{bins}/{level}-v{version}")
                if existing and existing.digest == metadata.digest:
                    return Imported(existing, f"{place.location}/{existing.key}", found=True, left_out=sum(left_out))
            lease.check()
            place.publish(staging, metadata.key)
    except OSError as error:
        raise UserError(
            f"{place.location} cannot be written ({error.strerror or error}); free some space, or choose another "
            "location with --root."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Imported(metadata, f"{place.location}/{metadata.key}", found=False, left_out=sum(left_out))
