"""Videos are decoded again and looked at; MuJoCo's pictures only where this machine has a renderer."""

import json
import subprocess
import sys

import av
import gymnasium
import numpy as np
import pytest
from safetensors.torch import save_file
from typer.testing import CliRunner

from spin_rl.algorithms.objectives import IQLSettings
from spin_rl.algorithms.presets import get_preset
from spin_rl.algorithms.training.agent import AgentSpec, OfflineAgent
from spin_rl.algorithms.training.checkpoints import save_agent_spec
from spin_rl.cli import app
from spin_rl.envs import camera, get_task, maze, pictures
from spin_rl.errors import UserError
from spin_rl.platform.datasets import open_dataset
from spin_rl.platform.datasets.collect import make_dataset
from spin_rl.platform.evaluation.video import film_episode, film_policy
from tests.toy import toy_task

MAZE = get_task("maze-5", 2)


@pytest.fixture(autouse=True)
def _backend_is_looked_for_anew():
    camera.backend.cache_clear()
    yield
    camera.backend.cache_clear()


def frames(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def centre_of(frame, colour) -> np.ndarray:
    """Where a colour is in a picture, as (x, y) of the unit square."""
    rows, columns = np.nonzero(np.abs(frame.astype(int) - colour).max(2) < 40)
    return np.array([columns.mean() + 0.5, frame.shape[0] - rows.mean() - 0.5]) / frame.shape[0]


def filmed(words: list[str]) -> str:
    result = CliRunner().invoke(app, ["video", *words], env={"COLUMNS": "200"})
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_behaviour_policy_is_filmed_from_start_to_goal(tmp_path):
    said = filmed(["maze-5", "expert", "--bins", "2", "--seed", "3", "--storage", str(tmp_path)])
    path = tmp_path / "video/maze-5-2-expert-seed-3.mp4"
    assert str(path) in said
    seen = frames(path)
    np.testing.assert_allclose(centre_of(seen[0], pictures.BODY), maze.START, atol=0.02)
    last = centre_of(seen[-1], pictures.BODY)
    assert all(low - 0.02 < x < high + 0.02 for low, x, high in zip(maze.GOAL[0], last, maze.GOAL[1], strict=True))
    assert not (tmp_path / "video/.maze-5-2-expert-seed-3.mp4.new").exists()


def test_an_episode_of_a_dataset_is_played_again(tmp_path):
    """The last episodes of both shares: where one share ends and the next begins, numbers begin anew."""
    made = make_dataset(MAZE, "medium-expert", 300, root=tmp_path, workers=0).metadata
    dataset = open_dataset("maze-5", "medium-expert", bins=2, root=tmp_path)
    for number in (made.behaviours[0].episodes - 1, made.behaviours[0].episodes, made.episodes - 1):
        path = tmp_path / f"{number}.mp4"
        assert film_episode(MAZE, dataset, number, path) == pytest.approx(dataset.returns()[number], abs=1e-4)
        end = dataset.transitions[dataset.episode_offsets[number + 1] - 1] + 1
        np.testing.assert_allclose(centre_of(frames(path)[-1], pictures.BODY), dataset.observations[end], atol=0.02)
    with pytest.raises(UserError, match=f"has episodes 0 to {made.episodes - 1}, not 500"):
        film_episode(MAZE, dataset, 500, tmp_path / "none.mp4")
    object.__setattr__(made, "seed", 1)
    object.__setattr__(dataset, "metadata", made)
    with pytest.raises(UserError, match=r"evolves differently on this machine.*mujoco"):
        film_episode(MAZE, dataset, 0, tmp_path / "none.mp4")
    assert not list(tmp_path.glob("*none*"))


def test_an_imported_episode_has_no_known_start(tmp_path):
    made = make_dataset(MAZE, "expert", 30, root=tmp_path, workers=0).metadata
    imported = made.behaviours[0].__class__(**{**vars(made.behaviours[0]), "policy": "imported from x.pkl"})
    object.__setattr__(made, "behaviours", (imported,))
    dataset = open_dataset("maze-5", "expert", bins=2, root=tmp_path)
    object.__setattr__(dataset, "metadata", made)
    with pytest.raises(UserError, match="was imported"):
        film_episode(MAZE, dataset, 0, tmp_path / "none.mp4")


def test_a_trained_policy_is_filmed_by_its_checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    spec = AgentSpec("factored", 2, (2,) * 5, get_preset("tiny"), IQLSettings(critic_width=16), 16, 0)
    save_agent_spec(spec, folder)
    save_file(OfflineAgent(spec).state()[0], folder / "learner.safetensors")
    (folder / "settings.json").write_text(json.dumps({"env": MAZE.gym_id, "method_name": "factored"}))
    (folder / "progress.json").write_text(json.dumps({"updates": 0}))
    path = tmp_path / "trained.mp4"
    assert "Return" in filmed([str(folder), "--output", str(path)])
    assert len(frames(path)) > 10


def test_a_cone_is_drawn_up_to_its_coordinates():
    env = get_task("cone-2x5", 2).make()
    env.reset(seed=0)
    for _ in range(2):
        env.step(np.array([1, 0, 0, 0]))
    picture = env.render()
    assert tuple(picture[-1, 90]) == pictures.TRAIL  # the first coordinate stands at 2 of 4
    assert tuple(picture[180, 90]) == pictures.BODY
    assert tuple(picture[-1, 270]) == pictures.BODY  # the second one at 0
    assert tuple(picture[0, 0]) == pictures.GOAL


@pytest.mark.integration
def test_a_simulation_is_drawn_without_a_display():
    try:
        camera.backend()
    except UserError as error:
        pytest.skip(str(error))
    env = get_task("cheetah-run").make()
    env.reset(seed=0)
    first = env.render()
    for _ in range(30):
        env.step(np.full(6, 2))
    later = env.render()
    env.close()
    assert first.shape == later.shape == (360, 480, 3)
    assert first.std() > 10
    assert 0 < (first != later).any(2).mean() < 0.9  # it moved; the sky stayed


def test_a_machine_without_renderer_says_what_to_install(tmp_path, monkeypatch):
    tried = []

    def fails(command, env, **_):
        tried.append(env["MUJOCO_GL"])
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(subprocess, "run", fails)
    with pytest.raises(UserError, match=r"neither EGL nor OSMesa works here.*apt-get install"):
        film_policy(get_task("cheetah-run"), Still(6), tmp_path / "none.mp4")
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    with pytest.raises(UserError, match="osmesa does not work here"):
        camera.backend()
    assert tried == ["egl", "osmesa", "osmesa"]
    assert not list(tmp_path.iterdir())


class Still:
    """Always choice 0."""

    draws = 0

    def __init__(self, sub_actions):
        self._action = np.zeros((1, sub_actions), np.int64)

    def act(self, observation, uniforms):
        return self._action


def test_what_gives_no_picture_leaves_no_video(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"Toy\.render\(\) returns no picture"):
        film_policy(toy_task(), Still(3), tmp_path / "none.mp4")

    class Failing(gymnasium.Wrapper):
        def render(self):
            if self.unwrapped._steps == 3:
                raise RuntimeError("lost")
            return self.env.render()

    failing = MAZE.__class__(**{**vars(MAZE), "make": lambda: Failing(MAZE.make())})
    with pytest.raises(RuntimeError, match="lost"):
        film_policy(failing, Still(5), tmp_path / "none.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match=r"pip install 'spin-rl\[video\]'"):
        film_policy(MAZE, Still(5), tmp_path / "none.mp4")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["maze-5", "medium-expert", "--bins", "2"], "medium-expert has several policies"),
        (["maze-5", "exper", "--bins", "2"], "Did you mean expert"),
        (["maze-5", "--episode", "1"], "name its task and level"),
        (["nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path, words, said):
    with pytest.raises(UserError, match=said):
        filmed([*words, "--storage", str(tmp_path)])
