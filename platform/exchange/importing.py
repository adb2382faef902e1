"""Transitions from elsewhere become a dataset of this format."""

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
from spin_rl.platform.datasets.store import Root, held
from spin_rl.platform.exchange.rules import AS_IT_SAYS, ImportRules
from spin_rl.platform.exchange.transitions import Transitions, episodes_of
from spin_rl.platform.exchange.validation import distinct, judged


class Spaces(NamedTuple):
    """What a task's transitions are made of."""

    nvec: tuple[int, ...]
    observation_size: int


class Imported(NamedTuple):
    """A dataset that is there now."""

    metadata: DatasetMetadata
    location: str
    found: bool  # an equal one was there before
    left_out: int = 0  # episodes of the source that came a second time


_MOST_CHOICES = int(np.iinfo(np.int16).max)
"""Of a sub-action: what is stored are their numbers from 0 on, as int16."""


def spaces_of(task: str, bins: int, nvec: Sequence[int] | None = None, observation_size: int | None = None) -> Spaces:
    """The spaces of a task of the catalogue, or those named, for a task that it does not know.

    Raises:
        UserError: unknown task and no spaces named, or other ones than the task has.
    """
    named = Spaces(tuple(nvec or ()), observation_size or 0)
    if any(not 1 <= choices <= _MOST_CHOICES for choices in named.nvec):
        raise UserError(
            f"nvec {list(named.nvec)} can't be: a sub-action has at least 1 choice and at most {_MOST_CHOICES:,}."
        )
    known = tasks().get((task, bins))
    if known is None:
        if not named.nvec or not named.observation_size:
            error = unknown_name("task", f"{task}-{bins}", sorted(each.key for each in tasks().values()))
            raise UserError(f"{error} For a task of your own, name --nvec and --observation-size.")
        return named
    env = known.make()
    try:
        space: Any = env.observation_space
        spaces = Spaces(nvec_of(env), int(np.prod(space.shape)))
    finally:
        env.close()
    if named.nvec not in ((), spaces.nvec) or named.observation_size not in (0, spaces.observation_size):
        raise UserError(
            f"{known.key} has nvec {list(spaces.nvec)} and {spaces.observation_size} observations, not those named."
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
    rules: ImportRules = AS_IT_SAYS,
) -> Imported:
    """Write transitions as the next version of a dataset, or find the version that has the same content.

    Args:
        batches: in the order of the source.
        task: name of the task.
        bins: choices per action dimension; part of the dataset's name.
        level: name of the level, lower-case letters, digits and hyphens.
        spaces: nvec and observation size.
        origin: where it comes from, for the metadata.
        root: where datasets lie.
        rules: what is known of the source beyond what it says.

    Raises:
        UserError: bad names, bad values (it names the source and the row), rows out of order, episodes that come a
            second time, no transitions, or the root cannot be written.
    """
    for what, name in (("task", task), ("level", level)):
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) or re.search(r"-v\d+$", name):
            raise UserError(
                f"'{name}' is no name for a {what}: lower-case letters, digits and hyphens, such as my-{what}."
            )
    place = Root(root)
    parent: Path = place.local or place.scratch / "making"
    staging = parent / f"{task}-{bins}" / f".{level}-import-{uuid.uuid4().hex}"
    known = tasks().get((task, bins))
    told = judged(batches, rules, name=origin, endless=known is not None and not known.terminates)
    left_out: list[int] = []
    blocks = distinct(episodes_of(told), rules.duplicates, name=origin, on_left_out=left_out.append)
    try:
        staging.parent.mkdir(parents=True, exist_ok=True)
        with held(staging.parent / f".{level}.lease") as lease:
            for left in staging.parent.glob(f".{level}-import-*"):  # by one that was killed
                shutil.rmtree(left, ignore_errors=True)
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
                there = place.read_metadata(f"{task}-{bins}/{level}-v{version}")
                if there and there.digest == metadata.digest:
                    return Imported(there, f"{place.location}/{there.key}", found=True, left_out=sum(left_out))
            lease.check()
            place.publish(staging, metadata.key)
    except OSError as error:
        raise UserError(
            f"{place.location} cannot be written ({error.strerror or error}); make room or name --root."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Imported(metadata, f"{place.location}/{metadata.key}", found=False, left_out=sum(left_out))
