"""What every test stands on: small thread pools, no display, and none of the user's own settings."""

import os

import pytest

# Before anything imports torch or MuJoCo; Ray's workers inherit them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MUJOCO_GL"] = "disable"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPIN_RL_DATA", "SPIN_RL_STORAGE", "SPIN_RL_CACHE", "MLFLOW_TRACKING_URI", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
