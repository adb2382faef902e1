"""How the actions of a dataset are distributed, and how strongly its sub-actions depend on each other."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from spin_rl.platform.datasets.reader import OfflineDataset
from spin_rl.platform.datasets.rows import episode_digests

_PAIRS_FROM = 100_000
"""Number of evenly spaced transitions that mutual information is estimated from."""


class Dependence(NamedTuple):
    """Divergence of the joint actions' distribution from the product of its marginals, in bits."""

    distinct: int  # joint actions that occur
    total_correlation: float  # sum of the sub-actions' entropies minus the joint entropy
    by_chance: float  # the same with every sub-action shuffled independently: the effect of the finite sample


def action_counts(dataset: OfflineDataset) -> list[NDArray[np.int64]]:
    """How often each choice of each sub-action occurs: N arrays, the i-th (nvec[i],)."""
    actions = dataset.actions[dataset.transitions]
    return [np.bincount(column, minlength=n) for column, n in zip(actions.T, dataset.metadata.nvec, strict=True)]


def dependence(dataset: OfflineDataset) -> Dependence:
    """Total correlation of the sub-actions over all transitions (plug-in estimate), beside that of shuffled ones."""
    actions = dataset.actions[dataset.transitions]
    marginal = sum(_entropy(counts) for counts in action_counts(dataset))
    joint = _joint_counts(actions)
    shuffled = np.random.default_rng(0).permuted(actions, axis=0)
    return Dependence(
        distinct=len(joint),
        total_correlation=float(marginal - _entropy(joint)),
        by_chance=float(marginal - _entropy(_joint_counts(shuffled))),
    )


def distinct_episodes(dataset: OfflineDataset) -> int:
    """Number of episodes that differ from all earlier ones; few in data of a deterministic problem."""
    columns = (dataset.observations, dataset.actions, dataset.rewards, dataset.terminated)
    return len(set(episode_digests(dataset.starts(), *columns)))


def mutual_information(dataset: OfflineDataset) -> NDArray[np.float64]:
    """Mutual information (N, N) of each pair of sub-actions, in bits; the diagonal holds their entropies."""
    every = max(1, len(dataset) // _PAIRS_FROM)
    actions = dataset.actions[dataset.transitions[::every]].astype(np.int64)
    nvec = dataset.metadata.nvec
    entropies = [_entropy(np.bincount(column)) for column in actions.T]
    result = np.diag(entropies)
    for i in range(len(nvec)):
        for j in range(i):
            joint = np.bincount(actions[:, i] * nvec[j] + actions[:, j])
            result[i, j] = result[j, i] = entropies[i] + entropies[j] - _entropy(joint)
    return result


def _joint_counts(actions: NDArray[np.int16]) -> NDArray[np.int64]:
    """Counts (distinct,) of the joint actions that occur."""
    rows = np.ascontiguousarray(actions)
    as_bytes = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))[:, 0]
    return np.unique(as_bytes, return_counts=True)[1]


def _entropy(counts: NDArray[np.int64]) -> float:
    """Entropy in bits of the empirical distribution with these counts."""
    probabilities = counts[counts > 0] / counts.sum()
    return float(-(probabilities * np.log2(probabilities)).sum())
