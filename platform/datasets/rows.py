"""Rows: a dataset as a table.

Observations are stored once. An episode of T steps is T + 1 rows, the last of which has only an observation:

    row            k      k+1    ...   k+T-1   k+T
    observation    s_0    s_1          s_T-1   s_T
    action         a_0    a_1          a_T-1   0
    reward         r_0    r_1          r_T-1   0
    terminated     -      -            ended?  -
    step           0      1            T-1     T
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from spin_rl.envs.rollout import Episode


class Rows(NamedTuple):
    """Whole episodes, one row per observation."""

    episode: NDArray[np.int64]  # (rows,)
    step: NDArray[np.int32]  # (rows,)
    observations: NDArray[np.float32]  # (rows, S)
    actions: NDArray[np.int16]  # (rows, N)
    rewards: NDArray[np.float32]  # (rows,)
    terminated: NDArray[np.bool_]  # (rows,)

    def starts(self) -> NDArray[np.int64]:
        """Rows (episodes + 1,) at which episodes start, and finally the number of rows."""
        return np.append(np.flatnonzero(self.step == 0), len(self.step))

    def returns(self) -> NDArray[np.float64]:
        """Undiscounted returns (episodes,)."""
        return np.add.reduceat(self.rewards.astype(np.float64), self.starts()[:-1])

    def lengths(self) -> NDArray[np.int64]:
        """Steps (episodes,) of each episode."""
        return np.diff(self.starts()) - 1

    def head(self, episodes: int) -> "Rows":
        """The first ``episodes`` episodes."""
        end = self.starts()[episodes]
        columns: list[Any] = [column[:end] for column in self]
        return Rows(*columns)

    def numbered_from(self, first_episode: int) -> "Rows":
        """The same rows with episodes numbered from ``first_episode``."""
        return self._replace(episode=self.episode - self.episode[0] + first_episode)


def rows_of(episodes: Sequence[Episode], first_episode: int = 0) -> Rows:
    """The rows of recorded episodes, numbered from ``first_episode``."""
    lengths = [len(episode) for episode in episodes]
    return Rows(
        episode=np.repeat(np.arange(first_episode, first_episode + len(episodes)), np.add(lengths, 1)),
        step=np.concatenate([np.arange(length + 1, dtype=np.int32) for length in lengths]),
        observations=np.concatenate([episode.observations for episode in episodes]),
        actions=np.concatenate([np.pad(episode.actions, ((0, 1), (0, 0))) for episode in episodes]),
        rewards=np.concatenate([np.append(episode.rewards, np.float32(0)) for episode in episodes]),
        terminated=np.concatenate(
            [
                np.arange(n + 1) == n - 1 if e.terminated else np.zeros(n + 1, bool)
                for e, n in zip(episodes, lengths, strict=True)
            ]
        ),
    )


def join(blocks: Iterable[Rows]) -> Rows:
    """One block from several."""
    return Rows(*(np.concatenate(columns) for columns in zip(*blocks, strict=True)))


def episode_digests(starts: NDArray[np.int64], *columns: NDArray[Any]) -> Iterator[bytes]:
    """A digest per episode; two episodes have the same one only if all of these columns are the same, bit for bit.

    Args:
        starts: (episodes + 1,) rows at which episodes start, and finally the number of rows.
        columns: (rows, ...) each.
    """
    for start, end in pairwise(starts):
        digest = blake2b(digest_size=16)
        for column in columns:
            digest.update(np.ascontiguousarray(column[start:end]).data)
        yield digest.digest()


class ContentDigest:
    """Digest of rows in order: the same on every machine, and independent of how the rows are split into parts.

    Each column is hashed separately as little-endian bytes; the digest is the hash of the identity and these hashes.
    """

    def __init__(self, identity: dict[str, Any]) -> None:
        self._identity = json.dumps(identity, sort_keys=True)
        self._columns = {name: blake2b(digest_size=16) for name in Rows._fields}

    def update(self, rows: Rows) -> None:
        for name, hash_, dtype in zip(Rows._fields, self._columns.values(), _LITTLE_ENDIAN, strict=True):
            hash_.update(np.ascontiguousarray(getattr(rows, name), dtype).data)

    def hexdigest(self) -> str:
        content = {name: hash_.hexdigest() for name, hash_ in self._columns.items()}
        return blake2b((self._identity + json.dumps(content)).encode(), digest_size=16).hexdigest()


_LITTLE_ENDIAN = ("<i8", "<i4", "<f4", "<i2", "<f4", "u1")
