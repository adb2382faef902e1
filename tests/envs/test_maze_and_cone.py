"""Maze and CoNE against their descriptions."""

import itertools

import numpy as np
import pytest

from spin_rl.envs import get_task, rollout
from spin_rl.envs.cone import CoNE, Grid, InnerGrid, neighbour
from spin_rl.envs.maze import GOAL, START, WALLS, Maze, Plan, pushes
from spin_rl.errors import UserError


@pytest.mark.parametrize("actuators", range(3, 12))
def test_the_longest_joint_motion_has_norm_1(actuators):
    every = np.array(list(itertools.product([0, 1], repeat=actuators)))
    assert np.linalg.norm(every @ pushes(actuators), axis=1).max() == pytest.approx(1)
    angles = np.arctan2(*pushes(actuators).T[::-1]) % (2 * np.pi)
    np.testing.assert_allclose(angles, 2 * np.pi * np.arange(actuators) / actuators, atol=1e-12)


def without_slips(monkeypatch, actuators=4):
    monkeypatch.setattr("spin_rl.envs.maze.SLIP", 0.0)
    env = Maze(actuators)
    env.reset(seed=0)
    return env


def test_a_step_is_four_short_moves(monkeypatch):
    env = without_slips(monkeypatch)  # actuators: right, up, left, down; two of them together have norm 1
    position, reward, terminated, truncated, _ = env.step(np.array([1, 0, 0, 0]))
    np.testing.assert_allclose(position, [START[0] + 4 * 0.045 * np.sqrt(0.5), START[1]], rtol=1e-6)
    assert (reward, terminated, truncated) == (pytest.approx(-0.05), False, False)
    still, *_ = env.step(np.array([1, 1, 1, 1]))
    np.testing.assert_allclose(still, position, atol=1e-7)


def test_a_wall_stops_the_step_before_it(monkeypatch):
    env = without_slips(monkeypatch)
    for _ in range(3):
        position, *_ = env.step(np.array([0, 1, 0, 0]))
    move = 0.045 * np.sqrt(0.5)
    assert position[1] == pytest.approx(0.1 + 4 * move)  # the fifth would end at 0.259, in the wall
    for _ in range(10):
        position, *_ = env.step(np.array([0, 0, 1, 1]))
    assert (position >= 0).all()


def test_a_slip_moves_up_and_right_only(monkeypatch):
    monkeypatch.setattr("spin_rl.envs.maze.SLIP", 1.0)
    env = Maze(3)
    env.reset(seed=0)
    position, *_ = env.step(np.array([0, 1, 1]))
    assert (np.array(START) < position).all()
    assert (position - START <= 4 * 0.045 / 1.415).all()


def test_walls_are_never_crossed_and_the_goal_terminates_the_episode():
    """A plan with noise: every position is free, and every episode ends in the goal or at the time limit."""
    task = get_task("maze-6", 2)
    played = rollout(task.make, task.scripted("medium", 0.0), episodes=30, seed=0, batch=30, record=True)
    for episode in played.recorded:
        for (left, low), (right, high) in WALLS:
            x, y = episode.observations.T
            assert not ((x > left) & (x < right) & (y > low) & (y < high)).any()
        (left, low), (right, high) = GOAL
        x, y = episode.observations[-1]
        assert episode.terminated == (left <= x <= right and low <= y <= high)
        assert episode.terminated or len(episode) == 150
        assert episode.episode_return == pytest.approx(100 * episode.terminated - 0.05 * len(episode), abs=1e-3)
    assert 0 < sum(episode.terminated for episode in played.recorded) < 30


@pytest.mark.parametrize("actuators", [3, 9, 15])
def test_the_plan_reaches_the_expert_reference_return(actuators):
    task = get_task(f"maze-{actuators}", 2)
    result = rollout(task.make, task.scripted("expert", 0.0), episodes=50, seed=1, batch=50)
    assert result.returns.mean() == pytest.approx(task.reference.expert, abs=0.1)


def test_the_plan_uses_few_joint_actions():
    assert len(Plan(15)._arcs) == 15**2


def test_cone_moves_cancels_and_pays():
    env = CoNE(3, 5)
    env.reset(seed=0)
    state, reward, terminated, truncated, _ = env.step(np.array([1, 0, 1, 1, 0, 1]))
    np.testing.assert_array_equal(state, [1, 0, 0])  # forward, both, back at the edge
    assert (reward, terminated, truncated) == (pytest.approx(-np.sqrt(9 + 16 + 16)), False, False)
    for _ in range(4):
        state, reward, terminated, *_ = env.step(np.array([1, 0, 1, 0, 1, 0]))
    assert (state.tolist(), reward, terminated) == ([4, 4, 4], 10, True)


def test_cone_time_truncates():
    env = CoNE(2, 3)
    env.reset(seed=0)
    ends = [env.step(np.zeros(4, int))[2:4] for _ in range(100)]
    assert ends == [(False, False)] * 99 + [(False, True)]


def test_a_large_grid_has_a_longer_time_limit():
    env = CoNE(1, 300)
    env.reset(seed=0)
    ends = [env.step(np.zeros(2, int))[3] for _ in range(4 * 299)]
    assert ends.index(True) == len(ends) - 1


def test_pits_are_fixed_and_off_the_safe_path():
    grid = Grid(3, 5, 100)
    pits = [np.frombuffer(each, np.int64) for each in grid.pits]
    assert len(pits) == 100
    assert grid.pits == Grid(3, 5, 100).pits != Grid(3, 5, 99).pits
    path = {state.tobytes() for state in grid.safe_path}
    assert not path & grid.pits
    steps = np.diff(grid.safe_path, axis=0)
    assert ((steps >= 0) & (steps <= 1)).all()
    assert steps.any(1).all()
    np.testing.assert_array_equal(steps.sum(0), [4, 4, 4])

    env = CoNE(3, 5, 100)
    env.reset(seed=0)
    near = next(pit for pit in pits if pit.max() == 1)
    action = np.stack([near, np.zeros(3, int)], 1).ravel()
    _, reward, terminated, truncated, _ = env.step(action)
    assert (reward, terminated, truncated) == (pytest.approx(-10 * np.sqrt(48)), True, False)


@pytest.mark.parametrize(
    "name",
    ["cone-2x5", "cone-3x5-90pits", "cone-6x4-1000pits", "cone-12x3", "cone-2x9999-1000pits", "cone-300x12-5000pits"],
)
def test_the_plan_reaches_every_goal_without_falling_into_a_pit(name):
    task = get_task(name, 2)
    result = rollout(task.make, task.scripted("expert", 0.0), episodes=1, seed=0, record=True)
    assert result.recorded[0].rewards[-1] == 10
    assert not task.reference.known
    assert task.reference.normalize(12.5) == 12.5


@pytest.mark.parametrize(
    ("name", "bins", "said"),
    [("cone-2x2-3pits", 2, "no room for 3 pits"), ("cone-2x10000", 2, "There is no task"),
     ("cone-0x5", 2, r"cone-<dimensions>x<side>\[-<pits>pits\]"),
     ("cone-2x1", 2, "a side of at least 2"), ("cone-3x3", 3, "There is: 2"), ("maze-2", 2, "maze-3")],
)  # fmt: skip
def test_invalid_sizes_are_refused(name, bins, said):
    with pytest.raises(UserError, match=said):
        get_task(name, bins)


def test_inner_pits_are_the_centre_and_then_cells_around_it():
    for pits in (0, 1, 2, 27):
        states = {tuple(np.frombuffer(each, np.int64)) for each in InnerGrid(3, 5, pits).pits}
        assert len(states) == pits
        assert not pits or (2, 2, 2) in states
        assert all(1 <= coordinate <= 3 for state in states for coordinate in state)
    env = get_task("cone-2x5-1inner", 2).make()
    env.reset(seed=0)
    forward = np.array([1, 0, 1, 0])
    assert env.step(forward)[2:4] == (False, False)
    assert env.step(forward)[1:3] == (pytest.approx(-10 * np.sqrt(32)), True)


def test_neighbours_are_all_offsets_but_none():
    offsets = neighbour(np.arange(26), 3)
    assert {tuple(each) for each in offsets} == {
        (a, b, c) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)
    } - {(0, 0, 0)}


def test_the_published_behaviour_draws_nine_in_ten_neighbours_and_never_opposed_pairs():
    task = get_task("cone-3x5-0inner", 2)
    policy = task.scripted("medium", 0.0)
    uniforms = np.random.default_rng(0).random((20_000, 2))
    states = np.tile(np.array([4, 0, 2], np.float32), (20_000, 1))
    action = policy.act(states, uniforms)
    assert not (action[:, 0::2] & action[:, 1::2]).any()
    kinds, counts = np.unique(action, axis=0, return_counts=True)
    assert len(kinds) == 26
    planned = (kinds == [0, 0, 1, 0, 1, 0]).all(1)  # forward where there is a way to go
    assert counts[planned] / 20_000 == pytest.approx(0.1 + 0.9 / 26, abs=0.01)
    assert counts[~planned] / 20_000 == pytest.approx(0.9 / 26, abs=0.005)
    result = rollout(get_task("cone-2x5-3inner", 2).make, get_task("cone-2x5-3inner", 2).scripted("expert", 0.0),
                     episodes=1, seed=0, record=True)  # fmt: skip
    assert result.recorded[0].rewards[-1] == 10


def test_the_best_return_is_the_published_one():
    task = get_task("cone-2x5-0inner", 2)
    policy = task.scripted("medium", 0.0)
    policy.epsilon = 0.0
    assert rollout(task.make, policy, episodes=1, seed=0).returns == pytest.approx(1.51, abs=0.01)


@pytest.mark.parametrize("name", ["cone-2x5-10inner", "cone-2x4-1inner", "cone-2x3-1inner", "cone-31x5-1inner"])
def test_inner_pits_without_room_are_refused(name):
    with pytest.raises(UserError, match="no room"):
        get_task(name, 2)
