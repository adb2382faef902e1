"""Transitions of a source in batches and in order, and the episodes recovered from them."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spin_rl.errors import UserError
from spin_rl.platform.datasets.rows import Rows


class Transitions(NamedTuple):
    """A batch of consecutive transitions of a source."""

    observation: NDArray[np.float32]  # (B, S)
    action: NDArray[np.int16]  # (B, N)
    reward: NDArray[np.float32]  # (B,)
    next_observation: NDArray[np.float32]  # (B, S)
    terminated: NDArray[np.bool_]  # (B,)
    ended: NDArray[np.bool_]  # (B,) known to be the last one of its episode

    @property
    def size(self) -> int:
        return len(self.reward)


class Source(NamedTuple):
    """Name of a source for messages, and the spaces that its transitions must have."""

    name: str
    nvec: tuple[int, ...]
    observation_size: int

    def batch(
        self,
        rows: NDArray[np.int64],
        *,
        observation: ArrayLike,
        action: ArrayLike,
        reward: ArrayLike,
        next_observation: ArrayLike,
        terminated: ArrayLike,
        ended: ArrayLike | None = None,
    ) -> Transitions:
        """Check arrays of any numeric type and convert them to transitions.

        Args:
            rows: (B,) numbers of the rows in the source, for messages.
            observation: (B, S).
            action: (B, N), integers.
            reward: (B,).
            next_observation: (B, S).
            terminated: (B,).
            ended: (B,), by default the same as ``terminated``.

        Raises:
            UserError: an invalid value; the message names the source and the row.
        """
        observations = self._floats(observation, rows, "observation")
        next_observations = self._floats(next_observation, rows, "next observation")
        rewards = self._floats(np.asarray(reward)[..., None], rows, "reward", 1)[:, 0]
        terminations = np.asarray(terminated).reshape(len(rewards)).astype(bool)
        return Transitions(
            observation=observations,
            action=self._actions(action, rows),
            reward=rewards,
            next_observation=next_observations,
            terminated=terminations,
            ended=terminations if ended is None else terminations | np.asarray(ended).reshape(-1).astype(bool),
        )

    def _floats(
        self, values: ArrayLike, rows: NDArray[np.int64], what: str, size: int | None = None
    ) -> NDArray[np.float32]:
        array = np.asarray(values)
        array = array.reshape(len(array), -1)
        size = size or self.observation_size
        if array.dtype.kind not in "biuf" or array.shape[1] != size:
            raise UserError(
                f"{self.name}, row {rows[0]}: {what} of {array.shape[1]} values of {array.dtype}, not {size} numbers."
            )
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
        self._refuse(~np.isfinite(array).all(1), rows, f"the {what} is not finite")
        return array

    def _actions(self, values: ArrayLike, rows: NDArray[np.int64]) -> NDArray[np.int16]:
        array = np.asarray(values)
        array = array.reshape(len(array), -1)
        if array.dtype.kind not in "biuf" or array.shape[1] != len(self.nvec):
            raise UserError(
                f"{self.name}, row {rows[0]}: action of {array.shape[1]} values of {array.dtype}, not "
                f"{len(self.nvec)} integers."
            )
        outside = ~np.all((array >= 0) & (array < np.array(self.nvec)), axis=1)
        self._refuse(outside, rows, f"the action is outside of nvec {list(self.nvec)}")
        self._refuse((array != np.floor(array)).any(1), rows, "the action is not made of integers")
        return array.astype(np.int16)

    def _refuse(self, wrong: NDArray[np.bool_], rows: NDArray[np.int64], what: str) -> None:
        if wrong.any():
            raise UserError(f"{self.name}, row {rows[np.argmax(wrong)]}: {what}.")


def episodes_of(batches: Iterable[Transitions]) -> Iterator[Rows]:
    """Blocks of whole episodes.

    An episode continues from one transition to the next if the next observation of the first is the observation of the
    second, unless the source marks its end:

        (s0, s1) (s1, s2) (s2, s3) | (s7, s8) (s8, s9)
    """
    waiting: list[Transitions] = []
    for batch in batches:
        waiting.append(batch)
        tail = _join(waiting[-2:])
        # all cuts not found yet are within this batch or right before it
        cuts = np.flatnonzero(_cuts(tail)) - (tail.size - batch.size)
        if not len(cuts):
            continue
        whole = _join(waiting)
        end = whole.size - batch.size + int(cuts[-1]) + 1
        yield _rows(_slice(whole, 0, end))
        waiting = [_slice(whole, end, whole.size)]
    rest = _join(waiting) if waiting else None
    if rest is not None and rest.size:
        yield _rows(rest)


def _cuts(batch: Transitions) -> NDArray[np.bool_]:
    """Whether an episode ends after each transition but the last (B - 1,)."""
    return batch.ended[:-1] | jumps(batch)


def jumps(batch: Transitions) -> NDArray[np.bool_]:
    """Whether each transition but the last (B - 1,) is unmarked but does not lead to the next one's observation."""
    return ~batch.ended[:-1] & (batch.next_observation[:-1] != batch.observation[1:]).any(1)


def _rows(batch: Transitions) -> Rows:
    """The rows of whole episodes."""
    ends = np.append(np.flatnonzero(_cuts(batch)), batch.size - 1)  # last transition of each
    lengths = np.diff(ends, prepend=-1)
    episode = np.repeat(np.arange(len(ends)), lengths)
    here = np.arange(batch.size) + episode  # row of each transition: each earlier episode has an additional row
    last = ends + np.arange(len(ends)) + 1  # rows with only an observation

    def spread(values: NDArray[Any], at_last: Any = 0) -> NDArray[Any]:
        column = np.zeros((batch.size + len(ends), *values.shape[1:]), values.dtype)
        column[here] = values
        column[last] = at_last
        return column

    steps = np.arange(batch.size) - np.repeat(ends - lengths + 1, lengths)
    return Rows(
        episode=spread(episode.astype(np.int64), np.arange(len(ends))),
        step=spread(steps.astype(np.int32), lengths),
        observations=spread(batch.observation, batch.next_observation[ends]),
        actions=spread(batch.action),
        rewards=spread(batch.reward),
        terminated=spread(batch.terminated, False),
    )


def _join(batches: list[Transitions]) -> Transitions:
    if len(batches) == 1:
        return batches[0]
    columns: list[Any] = [np.concatenate(column) for column in zip(*batches, strict=True)]
    return Transitions(*columns)


def _slice(batch: Transitions, start: int, end: int) -> Transitions:
    columns: list[Any] = [column[start:end] for column in batch]
    return Transitions(*columns)
