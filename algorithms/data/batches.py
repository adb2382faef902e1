"""Transitions that lie on the learner's device, and minibatches drawn from them."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from spin_rl.algorithms.data.features import FeatureTable
from spin_rl.platform.datasets import OfflineDataset


class Batch(NamedTuple):
    """Transitions; K minibatches at once have K as their leading dimension."""

    observation: Tensor  # (B, S) float32
    action: Tensor  # (B, N) int64
    reward: Tensor  # (B,) float32
    terminated: Tensor  # (B,) float32, 1 at terminal states (never at a time limit)
    next_observation: Tensor  # (B, S) float32
    rows: Tensor | None = None  # (B,) int64, of the observations in the dataset; those of the next ones follow
    table: FeatureTable | None = None  # features of all rows, where the policy reads stored ones

    def at(self, index: int) -> "Batch":
        """Minibatch ``index`` of K."""
        rows = None if self.rows is None else self.rows[index]
        observation, action, reward, terminated, next_observation = (array[index] for array in self[:5])
        return Batch(observation, action, reward, terminated, next_observation, rows, self.table)


class DeviceTransitions:
    """A dataset's arrays on a device; on a CPU the memory-mapped file itself, without a copy."""

    def __init__(self, dataset: OfflineDataset, device: torch.device, rows: np.ndarray | None = None) -> None:
        """
        Args:
            dataset: source of the transitions.
            device: where minibatches are gathered.
            rows: rows of the transitions to draw from; all by default.
        """

        def put(array: np.ndarray) -> Tensor:
            with _read_only_arrays_allowed():
                return torch.from_numpy(array).to(device)

        self._observations = put(dataset.observations)
        self._actions = put(dataset.actions)
        self._rewards = put(dataset.rewards)
        self._terminated = put(dataset.terminated)
        self._rows = put(dataset.transitions if rows is None else rows)
        self.size = len(self._rows)
        self.digest = dataset.meta.digest
        self.device = device

    def gather(self, indices: Tensor) -> Batch:
        """The transitions numbered ``indices``, of any shape (..., B)."""
        rows = _take(self._rows, indices).long()
        return Batch(
            observation=_take(self._observations, rows),
            action=_take(self._actions, rows).long(),
            reward=_take(self._rewards, rows),
            terminated=_take(self._terminated, rows).float(),
            next_observation=_take(self._observations, rows + 1),
            rows=rows,
        )

    @property
    def observations(self) -> Tensor:
        """The observation of every row of the dataset, (rows, S)."""
        return self._observations

    def states(self, indices: Tensor) -> Tensor:
        """The observations (B, S) alone of the transitions numbered ``indices``."""
        return _take(self._observations, _take(self._rows, indices).long())

    def observation_action(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """The observations (B, S) and joint actions (B, N) alone of the transitions numbered ``indices``."""
        rows = _take(self._rows, indices).long()
        return _take(self._observations, rows), _take(self._actions, rows).long()

    @property
    def rows(self) -> Tensor:
        """The row of every transition, (size,)."""
        return self._rows

    def actions_at(self, rows: Tensor) -> Tensor:
        """The joint actions (..., N), int64, of rows (...); a row that starts no transition has none, but a value."""
        return _take(self._actions, rows).long()


def _take(array: Tensor, indices: Tensor) -> Tensor:
    """``array[indices]`` for indices of any shape; on a CPU index_select is five times faster than indexing."""
    return array.index_select(0, indices.flatten()).unflatten(0, indices.shape)


@contextmanager
def _read_only_arrays_allowed() -> Iterator[None]:
    """Silence torch's warning that a memory-mapped array cannot be written to: we only read."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        yield


def draw_indices(
    seed: int, stream: int, first_update: int, updates: int, batch_size: int, size: int, device: torch.device
) -> Tensor:
    """Indices (updates, batch_size) in [0, size), uniform with replacement.

    A pure function of (seed, stream, number of the update), however the updates are divided into calls: a resumed run
    draws the same as an uninterrupted one. Counter-based: the splitmix64 finaliser of the draw's number, in wrapping
    int64.
    """
    counter = torch.arange(first_update * batch_size, (first_update + updates) * batch_size, device=device)
    key = _mix(torch.full((), seed * 0x9E3779B1 + stream + 1, device=device))  # tensor() would wait for a GPU
    bits = _mix(_mix(counter + key) ^ key)
    return ((((bits >> 32) & 0xFFFFFFFF) * size) >> 32).view(updates, batch_size)


def _mix(x: Tensor) -> Tensor:
    """splitmix64's finaliser (Steele et al. 2014); int64 products wrap as uint64 ones do."""
    x = x * -7046029254386353131
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * -4658895280553007687
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * -7723592293110705685
    return x ^ ((x >> 31) & 0x1FFFFFFFF)
