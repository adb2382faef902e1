"""Offline datasets: Parquet parts to exchange, a memory-mapped Arrow copy to train from.

This package holds what training needs and imports neither Ray nor MLflow nor PyTorch; ``collect`` makes datasets.
"""

from spin_rl.platform.datasets.metadata import Behaviour, DatasetMetadata
from spin_rl.platform.datasets.reader import OfflineDataset, open_dataset
from spin_rl.platform.datasets.store import default_root, find_metadata, list_datasets

__all__ = [
    "Behaviour",
    "DatasetMetadata",
    "OfflineDataset",
    "default_root",
    "find_metadata",
    "list_datasets",
    "open_dataset",
]
