"""What every test stands on: small thread pools, no display, and none of the user's own settings."""

import os
from pathlib import Path

import pytest

# Before anything imports torch or MuJoCo; Ray's workers inherit them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MUJOCO_GL"] = "disable"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPIN_RL_DATA", "SPIN_RL_STORAGE", "SPIN_RL_CACHE", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with cheetah-run-3/medium-expert-v1: 2,000 transitions, two episodes. Not to be written to."""
    from spin_rl.envs import get_task
    from spin_rl.platform.datasets import open_dataset
    from spin_rl.platform.datasets.collect import make_dataset

    root = tmp_path_factory.mktemp("data")
    make_dataset(get_task("cheetah-run"), "medium-expert", 2000, root=root, workers=0)
    open_dataset("cheetah-run", "medium-expert", root=root)
    return root
