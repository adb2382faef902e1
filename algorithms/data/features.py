"""Features of every state of a dataset, computed once: in memory, or in a memory-mapped file for later trainings."""

import json
import shutil
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import torch
from filelock import FileLock
from torch import Tensor

from spin_rl.errors import UserError, unknown_name

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_BLOCK = 2048
"""States per forward pass."""


@dataclass(frozen=True)
class FeatureStorage:
    """How features are stored.

    Attributes:
        dtype: ``float32``, or ``bfloat16`` at half the size.
        memory_gib: above this size they are stored in a file; by default half of the free memory.
        folder: of the files; without one, features have to fit into memory.
    """

    dtype: str = "float32"
    memory_gib: float | None = None
    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise unknown_name("feature dtype", self.dtype, DTYPES)


Extract = Callable[[Tensor], Tensor]
"""Features (B, ...) of observations (B, S); a function of its argument alone."""


class FeatureTable:
    """What a policy reads of every row of a dataset."""

    def __init__(self, features: Tensor, device: torch.device, seconds: float) -> None:
        """
        Args:
            features: (rows, ...), on the device or memory-mapped.
            device: of the minibatches.
            seconds: computing time, also where that was in an earlier training.
        """
        self._features = features
        self._device = device
        self.on_device = features.device.type == device.type
        self.seconds = seconds

    def at(self, rows: Tensor) -> Tensor:
        """Features (..., B, ...) of the rows (..., B), in float32 on the device."""
        found = self._features.index_select(0, rows.flatten().to(self._features.device))
        return found.to(self._device, torch.float32).unflatten(0, rows.shape)


def make_table(
    extract: Extract, weights: str, observations: Tensor, digest: str, storage: FeatureStorage
) -> FeatureTable:
    """Features of ``observations`` (rows, S).

    In memory, if they fit into the limit; else in a file named after the dataset and the weights, which later trainings
    on the same model use too.

    Args:
        extract: computes the features, on the device of the observations.
        weights: digest of the weights that it computes with.
        observations: every row of the dataset.
        digest: the dataset's.
        storage: where they go, and in which precision.

    Raises:
        UserError: they fit neither into memory nor on the disk.
    """
    device = observations.device
    shape = (len(observations), *extract(observations[:1]).shape[1:])
    size = int(np.prod(shape)) * DTYPES[storage.dtype].itemsize
    limit = _free_memory(device) / 2 if storage.memory_gib is None else storage.memory_gib * 2**30
    if size <= limit:
        started = time.perf_counter()
        features = torch.empty(shape, dtype=DTYPES[storage.dtype], device=device)
        _compute(extract, observations, features)
        return FeatureTable(features, device, time.perf_counter() - started)
    needs = (
        f"The features of all {len(observations):,} states need {_gib(size)}, more than the {_gib(limit)} of memory "
    )
    if storage.folder is None:
        raise UserError(
            f"{needs}they may take: set feature_dtype='bfloat16' (half of it), raise feature_memory_gib, or train spin."
        )
    storage.folder.mkdir(parents=True, exist_ok=True)
    # other kinds of devices round differently
    path = storage.folder / f"{digest}-{weights}-{storage.dtype}-{device.type}.bin"
    with FileLock(f"{path}.lock"):
        if not path.exists():
            free = shutil.disk_usage(storage.folder).free
            if size > free:
                raise UserError(
                    f"{needs}they may take and than the {_gib(free)} free in {storage.folder}: set "
                    "feature_dtype='bfloat16' (half of it), raise feature_memory_gib, delete old files there or name "
                    "another folder with SPIN_RL_CACHE, or train spin."
                )
            _write(path, extract, observations, shape, storage.dtype)
    seconds = json.loads(_record(path).read_text())["seconds"]
    return FeatureTable(_map(path, shape, storage.dtype, "r"), device, seconds)


@torch.no_grad()
def _compute(extract: Extract, observations: Tensor, features: Tensor) -> None:
    """Fill ``features`` (rows, ...)."""
    for start in range(0, len(observations), _BLOCK):
        block = slice(start, start + _BLOCK)
        features[block] = extract(observations[block]).to(features)


def _write(path: Path, extract: Extract, observations: Tensor, shape: tuple[int, ...], dtype: str) -> None:
    """Compute into a temporary file, then rename it to ``path``; to be called under its lock."""
    started = time.perf_counter()
    unfinished = path.with_suffix(".new")
    try:
        features = _map(unfinished, shape, dtype, "w+")
        _compute(extract, observations, features)
        del features
        _record(path).write_text(json.dumps({"shape": shape, "seconds": time.perf_counter() - started}))
        unfinished.replace(path)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise UserError(
            f"The features {path} cannot be written ({error.strerror or error}); make room there, or name another "
            "folder with SPIN_RL_CACHE."
        ) from error


def _map(path: Path, shape: tuple[int, ...], dtype: str, mode: str) -> Tensor:
    """A file's content as a tensor; NumPy has no bfloat16, so its bits are mapped as int16."""
    plain = np.float32 if dtype == "float32" else np.int16
    array = np.memmap(path, plain, mode, shape=shape)  # type: ignore[call-overload]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array).view(DTYPES[dtype])


def _record(path: Path) -> Path:
    return path.with_suffix(".json")


def _free_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    return float(psutil.virtual_memory().available)


def _gib(size: float) -> str:
    return f"{size / 2**30:.3g} GiB"
