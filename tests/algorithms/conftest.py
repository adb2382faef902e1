"""What the tests of the methods stand on: a small ragged dataset, and an action structure model pretrained on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from spin_rl.algorithms.asm.pretraining import ASMConfig
from spin_rl.algorithms.presets import get_preset
from spin_rl.algorithms.pretraining.checkpoints import ensure_pretrained
from spin_rl.envs import catalogue
from spin_rl.platform.asm_store.store import ASMCheckpoint, ASMStore
from spin_rl.platform.datasets import OfflineDataset, open_dataset
from spin_rl.platform.datasets.collect import make_dataset
from tests.toy import toy_task


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # the number of threads decides how sums are rounded


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OfflineDataset]:
    """Episodes of at most 12 steps, ragged actions, some terminations."""
    root = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(catalogue._TASKS, ("toy", 4), toy_task())
        make_dataset(toy_task(), "random", 600, root=root, workers=0)
        yield open_dataset("toy", "random", bins=4, root=root)


@pytest.fixture(scope="session")
def asm_config() -> ASMConfig:
    return ASMConfig(sizes=get_preset("tiny").asm, batch_size=32)


@pytest.fixture(scope="session")
def asm_checkpoint(
    toy: OfflineDataset, asm_config: ASMConfig, tmp_path_factory: pytest.TempPathFactory
) -> ASMCheckpoint:
    """A model after 30 steps."""
    return ensure_pretrained(ASMStore(tmp_path_factory.mktemp("asm")), toy, asm_config, [30])[0]


@pytest.fixture
def asm_folder(asm_checkpoint: ASMCheckpoint) -> Path:
    return Path(asm_checkpoint.path)
