"""Datasets as trials name them: by their folder, ROOT/TASK-BINS/LEVEL-vN."""

from spin_rl.algorithms.settings import split_dataset_path
from spin_rl.platform.datasets import OfflineDataset, open_dataset


def dataset_path(root: str, dataset: OfflineDataset) -> str:
    """The folder of an opened dataset, as ``offline_data(input_=...)`` takes it."""
    return f"{root.rstrip('/')}/{dataset.meta.key}"


def open_by_path(path: str) -> OfflineDataset:
    """The dataset in folder ``path``; the inverse of ``dataset_path``.

    Raises:
        UserError: it is not the folder of a dataset.
    """
    root, key, name = split_dataset_path(path)
    task, bins = key.rsplit("-", 1)
    level, version = name.rsplit("-v", 1)
    return open_dataset(task, level, bins=int(bins), root=root, version=int(version))
