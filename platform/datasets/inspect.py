"""How the actions of a dataset are distributed."""

import numpy as np
from numpy.typing import NDArray

from spin_rl.platform.datasets.reader import OfflineDataset


def action_counts(dataset: OfflineDataset) -> list[NDArray[np.int64]]:
    """How often each choice of each sub-action occurs: N arrays, the i-th (nvec[i],)."""
    actions = dataset.actions[dataset.transitions]
    return [np.bincount(column, minlength=n) for column, n in zip(actions.T, dataset.metadata.nvec, strict=True)]


def distinct_actions(dataset: OfflineDataset) -> int:
    """How many different joint actions occur."""
    return len(joint_action_counts(dataset))


def joint_action_counts(dataset: OfflineDataset) -> NDArray[np.int64]:
    """How often each joint action that occurs does (distinct,)."""
    actions = np.ascontiguousarray(dataset.actions[dataset.transitions])
    as_bytes = actions.view(np.dtype((np.void, actions.dtype.itemsize * actions.shape[1])))[:, 0]
    return np.unique(as_bytes, return_counts=True)[1]
