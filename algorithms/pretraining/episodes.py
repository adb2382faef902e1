"""Which transitions are pretrained on, and which are held out."""

import numpy as np

from spin_rl.platform.datasets import OfflineDataset


def split_by_episode(dataset: OfflineDataset, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the training transitions and of the held-out ones: ``fraction`` of the episodes, at least one.

    The only episode of a dataset is both: there is no other to hold out.
    """
    offsets = dataset.episode_offsets
    episodes = len(offsets) - 1
    order = np.random.default_rng((seed, episodes)).permutation(episodes)
    held_out = np.zeros(episodes, bool)
    held_out[order[: max(1, round(fraction * episodes))]] = True
    of_transition = np.repeat(held_out, np.diff(offsets))
    if of_transition.all():
        return np.asarray(dataset.transitions), np.asarray(dataset.transitions)
    return dataset.transitions[~of_transition], dataset.transitions[of_transition]


def spread(rows: np.ndarray, limit: int) -> np.ndarray:
    """At most ``limit`` of ``rows``, evenly spread, as datasets hold the behaviours' episodes one after the other."""
    if len(rows) <= limit:
        return rows
    return rows[np.linspace(0, len(rows) - 1, limit).round().astype(np.int64)]
