"""User-defined tasks: the example of the documentation, entry points, continuous environments."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box

from spin_rl.envs import discretize
from spin_rl.errors import UserError

REPOSITORY = Path(__file__).parents[2]


def run(code: str, path: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, cwd=path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def install(folder: Path, name: str, code: str, target: str) -> None:
    """What pip installs: the module, and metadata with the entry point."""
    (folder / f"{name}.py").write_text(code)
    information = folder / f"{name}-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (information / "entry_points.txt").write_text(f"[spin_rl.tasks]\n{name} = {target}\n")


def test_the_documented_example_is_a_task_like_ours(tmp_path):
    page = (REPOSITORY / "docs/own-task.md").read_text()
    code = re.search(r"```python\n(# lights_out\.py.*?)```", page, re.S)[1]
    target = re.search(r'lights-out = "(.*?)"', page)[1]
    install(tmp_path, "lights_out", code, target)
    # a broken package does not affect the others
    install(tmp_path, "broken", "raise RuntimeError('on import')", "broken:tasks")
    said = run(
        textwrap.dedent("""
        from gymnasium.utils.env_checker import check_env
        from spin_rl.envs import get_task, tasks
        from spin_rl.platform.datasets import open_dataset
        from spin_rl.platform.datasets.collect import make_dataset

        task = get_task("lights-out", 2)
        check_env(task.make(), skip_render_check=True)
        assert ("cheetah-run", 3) in tasks()
        made = make_dataset(task, "expert", 50, root="data", workers=0)
        print(open_dataset("lights-out", "expert", bins=2, root="data").returns().min())
        """),
        tmp_path,
    )
    assert "The tasks of broken:tasks are skipped: RuntimeError('on import')" in said
    assert "9.0" in said


class Continuous(gymnasium.Env):
    """Pays the sum of its actions."""

    observation_space = Box(-1, 1, (2,), np.float32)

    def __init__(self, space):
        self.action_space = space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        return np.zeros(2, np.float32), float(action @ [1, 100]), False, False, {}


def test_a_continuous_environment_is_discretised_by_one_call():
    env = discretize(Continuous(Box(np.array([-1, 0], np.float32), np.array([1, 8], np.float32))), [3, 5])
    env.reset(seed=0)
    assert env.action_space.nvec.tolist() == [3, 5]
    values = [[env.step(np.array([i, j]))[1] for j in range(5)] for i in range(3)]
    expected = np.add.outer([-1, 0, 1], [0, 200, 400, 600, 800])
    np.testing.assert_allclose(values, expected)
    assert discretize(Continuous(Box(-1, 1, (2,), np.float32)), 7).action_space.nvec.tolist() == [7, 7]


@pytest.mark.parametrize(
    ("space", "bins"),
    [(Box(-np.inf, 1, (2,)), 3), (Box(-1, 1, (2, 2)), 3), (gymnasium.spaces.Discrete(3), 3), (Box(-1, 1, (2,)), [3]),
     (Box(-1, 1, (2,)), 1)],
)  # fmt: skip
def test_what_cannot_be_discretised_says_why(space, bins):
    with pytest.raises(UserError, match=r"bounded one-dimensional Box|at least 2 bins"):
        discretize(Continuous(space), bins)
