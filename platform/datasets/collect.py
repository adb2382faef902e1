"""Making a dataset: episodes of behaviour policies, collected by Ray tasks in parallel.

The unit of work is a chunk of ``CHUNK`` episodes, a function of (policy, seed, chunk number) alone, so the bits of a
dataset depend neither on the number of workers nor on their order. Collected chunks are kept until the dataset is
complete, so that a killed collection resumes where it stopped.
"""

import hashlib
import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from spin_rl.envs.behaviour.library import load_policy
from spin_rl.envs.behaviour.network import UniformRandom
from spin_rl.envs.catalogue import Task, nvec_of
from spin_rl.envs.rollout import BatchPolicy, Episode, rollout
from spin_rl.errors import UserError, unknown_name
from spin_rl.platform.common.leases import Lease
from spin_rl.platform.datasets.build import Origin, build_dataset, versions
from spin_rl.platform.datasets.levels import LEVELS, SIZES, check_level
from spin_rl.platform.datasets.metadata import SCHEMA, DatasetMetadata
from spin_rl.platform.datasets.parts import read_part, write_part
from spin_rl.platform.datasets.pool import InProcess, RayPool
from spin_rl.platform.datasets.rows import Rows, rows_of
from spin_rl.platform.datasets.store import DatasetRoot, exclusive

CHUNK = 10
"""Episodes that are stepped side by side and collected as one piece; the bits of a dataset depend on it."""

_LONGEST = 1000
"""Steps of the longest episodes, for a first guess of the number of chunks."""

_STREAMS = {"random": 0, "medium": 1, "expert": 2}
"""Each behaviour has its own stream of random numbers, the same in every level that it is part of."""


class MadeDataset(NamedTuple):
    """A dataset that was made or found."""

    metadata: DatasetMetadata
    location: str
    found: bool  # it existed before


def make_dataset(
    task: Task,
    level: str,
    size: int | None = None,
    *,
    seed: int = 0,
    root: str | Path | None = None,
    epsilon: float = 0.0,
    workers: int | None = None,
    policies: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> MadeDataset:
    """Collect a dataset, or find the one that an equal request made before.

    Args:
        task: the problem.
        level: names the behaviour policies; each contributes whole episodes with at least an equal share of ``size``.
        size: minimum number of transitions; the paper's number by default. Another size, seed, epsilon or policy makes
            the next version.
        seed: non-negative; the same seed gives the same bits.
        root: location of datasets; ``SPIN_RL_DATA`` or ``./data`` by default.
        epsilon: probability of a uniformly drawn choice, for each sub-action of the trained policies.
        workers: number of parallel Ray tasks, by default one per CPU of the cluster; 0 collects in this process,
            without Ray.
        policies: folder of behaviour policies, by default the shipped ones.
        on_progress: called with the transitions so far and the total.

    Raises:
        UserError: unknown level, no policy for it, invalid numbers, or the root cannot be written.
    """
    check_level(level)
    size = SIZES[level] if size is None else size
    if size < 1 or seed < 0 or not 0 <= epsilon <= 1:
        raise UserError("A dataset needs size >= 1, seed >= 0 and epsilon between 0 and 1.")
    place = DatasetRoot(root)
    sources = [_source(task, name, epsilon, policies) for name in LEVELS[level]]
    request = _Request(task, level, size, seed, sources, *_spaces(task))
    staging = request.staging(place)
    try:
        staging.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(staging.parent / f".{level}.lease") as lease:
            existing = place.versions(task.name, task.bins, level)
            for number in existing:
                metadata = place.read_metadata(f"{task.key}/{level}-v{number}")
                if metadata and request.matches(metadata):
                    return MadeDataset(metadata, f"{place.location}/{metadata.key}", found=True)
            staging.mkdir(exist_ok=True)
            share = -(-size // len(sources))
            spaces = (request.observation_size, len(request.nvec))
            shares = [_Share(source, share, spaces, staging) for source in sources]
            _collect(shares, task, seed, workers, on_progress, lease)
            whole = staging / f"whole-{uuid.uuid4().hex}"
            metadata = build_dataset(
                whole,
                [(share.source.origin, share.blocks()) for share in shares],
                task=task.name,
                bins=task.bins,
                level=level,
                version=max(existing, default=0) + 1,
                nvec=request.nvec,
                observation_size=request.observation_size,
                requested_size=size,
                seed=seed,
                reference_random=task.reference.random if task.reference.known else None,
                reference_expert=task.reference.expert if task.reference.known else None,
            )
            lease.check()
            place.publish(whole, metadata.key)
            shutil.rmtree(staging)
    except OSError as error:
        raise UserError(
            f"{place.location} cannot be written ({error.strerror or error}); free some space, or choose another "
            "location with --root. Episodes collected so far are kept."
        ) from error
    return MadeDataset(metadata, f"{place.location}/{metadata.key}", found=False)


@dataclass(frozen=True)
class _Request:
    """A request for a dataset; equal requests give equal datasets."""

    task: Task
    level: str
    size: int
    seed: int
    sources: "list[_Source]"
    nvec: tuple[int, ...]
    observation_size: int

    def matches(self, metadata: DatasetMetadata) -> bool:
        """Whether a dataset is the requested one."""
        behaviours = [(behaviour.name, behaviour.policy_digest, behaviour.epsilon) for behaviour in metadata.behaviours]
        wanted = [(origin.name, origin.policy_digest, origin.epsilon) for origin, _ in self.sources]
        return (metadata.requested_size, metadata.seed, behaviours) == (self.size, self.seed, wanted)

    def staging(self, place: DatasetRoot) -> Path:
        """Folder on this machine for the chunks; collections that cannot share chunks have different folders."""
        shared = [self.seed, CHUNK, SCHEMA, versions(), [origin for origin, _ in self.sources]]
        fingerprint = hashlib.sha256(json.dumps(shared).encode()).hexdigest()[:12]
        parent: Path = place.local or place.scratch / "making"
        return parent / self.task.key / f".{self.level}-{fingerprint}"


class _Source(NamedTuple):
    """A behaviour policy that is ready to act, and its description."""

    origin: Origin
    policy: BatchPolicy


def _spaces(task: Task) -> tuple[tuple[int, ...], int]:
    """nvec (N,) and observation size."""
    env = task.make()
    try:
        space: Any = env.observation_space
        return nvec_of(env), int(np.prod(space.shape))
    finally:
        env.close()


def _source(task: Task, name: str, epsilon: float, policies: Path | None) -> _Source:
    if name == "random":
        return _Source(Origin(name, "uniformly random", "", 1.0), UniformRandom(_spaces(task)[0]))
    if task.scripted:
        scripted = task.scripted(name, epsilon)
        return _Source(Origin(name, "scripted", "", scripted.epsilon), scripted)
    policy, card = load_policy(task, name, policies)
    policy.epsilon = epsilon
    label = "" if card.label == name else f"; {card.label}"
    trained = f"{card.algorithm} of {card.length}, seed {card.seed}{label}"
    return _Source(Origin(name, trained, card.digest, epsilon), policy)


def behaviour_policy(task: Task, name: str, *, epsilon: float = 0.0, policies: Path | None = None) -> BatchPolicy:
    """The policy called ``name`` (random, medium or expert) that collects datasets of a task.

    Raises:
        UserError: no such policy, or none has been trained.
    """
    if name not in _STREAMS:
        raise unknown_name("behaviour policy", name, _STREAMS)
    return _source(task, name, epsilon, policies).policy


def stream_of(seed: int, name: str) -> int:
    """Seed of the episodes of behaviour ``name`` in a dataset with ``seed``."""
    return int(np.random.SeedSequence([seed, _STREAMS[name]]).generate_state(1)[0])


class _Share:
    """The chunks of one behaviour: which are collected, which are in progress, and whether they suffice."""

    def __init__(self, source: _Source, needed: int, spaces: tuple[int, int], staging: Path) -> None:
        self.source, self.needed = source, needed
        self._spaces = spaces  # S, N
        self._staging = staging
        self._transitions: dict[int, int] = {}  # of each collected chunk
        self._next = 0
        for path in sorted(staging.glob(f"{source.origin.name}-*.parquet")):
            self._count(path)

    @property
    def collected(self) -> int:
        """Number of transitions so far, at most those needed."""
        return min(sum(self._transitions.values()), self.needed)

    @property
    def complete(self) -> bool:
        """Whether the chunks up to the first missing one suffice."""
        total = count = 0
        while total < self.needed and count in self._transitions:
            total, count = total + self._transitions[count], count + 1
        return total >= self.needed

    def next_chunk(self) -> int | None:
        """Number of the next chunk to collect; None while those collected and in progress seem to suffice."""
        while self._next in self._transitions:
            self._next += 1
        done = sum(self._transitions.values())
        mean = done / len(self._transitions) if done else CHUNK * _LONGEST
        if self._next >= self.needed / mean:
            return None
        self._next += 1
        return self._next - 1

    def put(self, number: int, episodes: list[Episode]) -> None:
        """Save a collected chunk."""
        write_part(self._path(number), rows_of(episodes))
        self._transitions[number] = sum(len(episode) for episode in episodes)

    def blocks(self) -> Iterator[Rows]:
        """The rows of the share: whole episodes in order, as few as suffice."""
        missing, number = self.needed, 0
        while missing > 0:
            rows = self._read(self._path(number))
            reached = np.flatnonzero(rows.lengths().cumsum() >= missing)
            rows = rows.head(int(reached[0]) + 1) if len(reached) else rows
            missing, number = missing - int(rows.lengths().sum()), number + 1
            yield rows

    def _path(self, number: int) -> Path:
        return self._staging / f"{self.source.origin.name}-{number:06d}.parquet"

    def _count(self, path: Path) -> None:
        try:
            lengths = self._read(path).lengths()
        except UserError:  # half-written when the machine failed
            path.unlink()
        else:
            self._transitions[int(path.stem.rsplit("-", 1)[1])] = int(lengths.sum())

    def _read(self, path: Path) -> Rows:
        return read_part(path, str(path), *self._spaces)


def _collect(
    shares: list[_Share],
    task: Task,
    seed: int,
    workers: int | None,
    on_progress: Callable[[int, int], None] | None,
    lease: Lease,
) -> None:
    """Collect chunks until every share is complete, as long as the lease is held."""
    total = sum(share.needed for share in shares)
    if on_progress:
        on_progress(sum(share.collected for share in shares), total)
    if all(share.complete for share in shares):
        return
    with InProcess() if workers == 0 else RayPool(workers) as pool:
        while not all(share.complete for share in shares):
            for share in shares:
                while pool.free and (number := share.next_chunk()) is not None:
                    stream = stream_of(seed, share.source.origin.name)
                    pool.submit((share, number), _collect_chunk, task, share.source.policy, stream, number)
            (share, number), episodes = pool.next()
            lease.check()
            share.put(number, episodes)
            if on_progress:
                on_progress(sum(share.collected for share in shares), total)


def _collect_chunk(task: Task, policy: BatchPolicy, seed: int, number: int) -> list[Episode]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # rounding depends on it
    try:
        first = number * CHUNK
        result = rollout(task.make, policy, episodes=CHUNK, seed=seed, first_episode=first, batch=CHUNK, record=True)
        return result.recorded
    finally:
        torch.set_num_threads(threads)
