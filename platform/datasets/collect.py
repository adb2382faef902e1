"""Making a dataset: episodes of behaviour policies, collected by Ray tasks in parallel.

The unit of work is a chunk of ``CHUNK`` episodes, a function of (policy, seed, number of the chunk) alone: the bits of
a dataset do not depend on how many workers there are or on which of them was first. Collected chunks are kept until the
dataset is whole, so that a killed collection goes on where it stood.
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
from spin_rl.platform.datasets.levels import LEVELS, check_level
from spin_rl.platform.datasets.metadata import SCHEMA, DatasetMetadata
from spin_rl.platform.datasets.parts import read_part, write_part
from spin_rl.platform.datasets.pool import InProcess, RayPool
from spin_rl.platform.datasets.rows import Rows, rows_of
from spin_rl.platform.datasets.store import Root, held

CHUNK = 10
"""Episodes stepped side by side and collected as one piece; part of what the bits depend on."""

_LONGEST = 1000
"""Steps of the longest episodes: a first guess of how many chunks are needed."""

_STREAMS = {"random": 0, "medium": 1, "expert": 2}
"""Each behaviour has random numbers of its own, the same in every level that it is part of."""


class MadeDataset(NamedTuple):
    """A dataset that is there now."""

    metadata: DatasetMetadata
    location: str
    found: bool  # it was there before


def make_dataset(
    task: Task,
    level: str,
    size: int,
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
        level: which behaviour policies; each gives whole episodes of at least an equal share of ``size`` transitions.
        size: transitions asked for. Another size, seed, epsilon or policy makes the next version.
        seed: non-negative; the same seed gives the same bits.
        root: where datasets lie; ``SPIN_RL_DATA`` or ``./data`` by default.
        epsilon: probability of a uniformly drawn choice, for each sub-action of the trained policies.
        workers: Ray tasks side by side, by default one per CPU of the cluster; 0 collects in this process, without Ray.
        policies: folder of behaviour policies, by default the shipped ones.
        on_progress: called with transitions so far and in all.

    Raises:
        UserError: unknown level, no policy for it, bad numbers, or the root cannot be written.
    """
    check_level(level)
    if size < 1 or seed < 0 or not 0 <= epsilon <= 1:
        raise UserError("A dataset needs size >= 1, seed >= 0 and epsilon between 0 and 1.")
    place = Root(root)
    sources = [_source(task, name, epsilon, policies) for name in LEVELS[level]]
    request = _Request(task, level, size, seed, sources, *_spaces(task))
    staging = request.staging(place)
    try:
        staging.parent.mkdir(parents=True, exist_ok=True)
        with held(staging.parent / f".{level}.lease") as lease:
            there = place.versions(task.name, task.bins, level)
            for number in there:
                metadata = place.read_metadata(f"{task.key}/{level}-v{number}")
                if metadata and request.made(metadata):
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
                version=max(there, default=0) + 1,
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
            f"{place.location} cannot be written ({error.strerror or error}); make room, or name another place with "
            "--root. What is collected is kept."
        ) from error
    return MadeDataset(metadata, f"{place.location}/{metadata.key}", found=False)


@dataclass(frozen=True)
class _Request:
    """What was asked for; equal requests give equal datasets."""

    task: Task
    level: str
    size: int
    seed: int
    sources: "list[_Source]"
    nvec: tuple[int, ...]
    observation_size: int

    def made(self, metadata: DatasetMetadata) -> bool:
        """The dataset is what this asks for."""
        behaviours = [(behaviour.name, behaviour.policy_digest, behaviour.epsilon) for behaviour in metadata.behaviours]
        wanted = [(origin.name, origin.policy_digest, origin.epsilon) for origin, _ in self.sources]
        return (metadata.requested_size, metadata.seed, behaviours) == (self.size, self.seed, wanted)

    def staging(self, place: Root) -> Path:
        """Folder on this machine for the chunks; collections that could not share them have different ones."""
        shared = [self.seed, CHUNK, SCHEMA, versions(), [origin for origin, _ in self.sources]]
        fingerprint = hashlib.sha256(json.dumps(shared).encode()).hexdigest()[:12]
        parent: Path = place.local or place.scratch / "making"
        return parent / self.task.key / f".{self.level}-{fingerprint}"


class _Source(NamedTuple):
    """A behaviour policy ready to act."""

    origin: Origin
    policy: BatchPolicy


def _spaces(task: Task) -> tuple[tuple[int, ...], int]:
    """nvec and observation size."""
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
    said = "" if card.label == name else f"; {card.label}"
    trained = f"{card.algorithm} of {card.length}, seed {card.seed}{said}"
    return _Source(Origin(name, trained, card.digest, epsilon), policy)


def behaviour_policy(task: Task, name: str, *, epsilon: float = 0.0, policies: Path | None = None) -> BatchPolicy:
    """The policy that collects ``name`` (random, medium or expert).

    Raises:
        UserError: there is none of that name, or none was trained.
    """
    if name not in _STREAMS:
        raise unknown_name("behaviour policy", name, _STREAMS)
    return _source(task, name, epsilon, policies).policy


def stream_of(seed: int, name: str) -> int:
    """Seed of the episodes of behaviour ``name`` in a dataset of ``seed``."""
    return int(np.random.SeedSequence([seed, _STREAMS[name]]).generate_state(1)[0])


class _Share:
    """The chunks of one behaviour: which are there, which are under way, and whether they suffice."""

    def __init__(self, source: _Source, needed: int, spaces: tuple[int, int], staging: Path) -> None:
        self.source, self.needed = source, needed
        self._spaces = spaces  # S, N
        self._staging = staging
        self._transitions: dict[int, int] = {}  # of each chunk that is there
        self._next = 0
        for path in sorted(staging.glob(f"{source.origin.name}-*.parquet")):
            self._count(path)

    @property
    def collected(self) -> int:
        """Transitions so far, at most those needed."""
        return min(sum(self._transitions.values()), self.needed)

    @property
    def whole(self) -> bool:
        """The chunks without a gap before them suffice."""
        total = count = 0
        while total < self.needed and count in self._transitions:
            total, count = total + self._transitions[count], count + 1
        return total >= self.needed

    def next_chunk(self) -> int | None:
        """Number of the next chunk to collect; None while those there and under way seem to suffice."""
        while self._next in self._transitions:
            self._next += 1
        done = sum(self._transitions.values())
        mean = done / len(self._transitions) if done else CHUNK * _LONGEST
        if self._next >= self.needed / mean:
            return None
        self._next += 1
        return self._next - 1

    def put(self, number: int, episodes: list[Episode]) -> None:
        """Keep a collected chunk on the disk."""
        write_part(self._path(number), rows_of(episodes))
        self._transitions[number] = sum(len(episode) for episode in episodes)

    def blocks(self) -> Iterator[Rows]:
        """The rows of the share: whole episodes in order, the fewest that cover what is needed."""
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
        except UserError:  # half-written when the power went
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
    """Collect chunks until every share is whole, as long as the lease is held."""
    total = sum(share.needed for share in shares)
    if on_progress:
        on_progress(sum(share.collected for share in shares), total)
    if all(share.whole for share in shares):
        return
    with InProcess() if workers == 0 else RayPool(workers) as pool:
        while not all(share.whole for share in shares):
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
