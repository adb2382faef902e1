"""Properties of every task of the catalogue."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from spin_rl.envs import UNKNOWN, get_task, nvec_of, tasks
from spin_rl.envs.control import DiscretizedControl
from spin_rl.errors import UserError

NAMED = [("cone-2x5", 2), ("cone-3x4-5pits", 2), ("cone-30x9-100pits", 2)]  # built on demand


@pytest.fixture(params=[*tasks(), *NAMED], ids=lambda key: f"{key[0]}-{key[1]}")
def task(request):
    return get_task(*request.param)


def play(env, seed, steps=3):
    observation, _ = env.reset(seed=seed)
    observations, rewards = [observation], []
    generator = np.random.default_rng(seed)
    for _ in range(steps):
        action = generator.integers(nvec_of(env))
        observation, reward, terminated, truncated, _ = env.step(action)
        assert not truncated
        if terminated:
            break
        observations.append(observation)
        rewards.append(reward)
    return observations, rewards


def test_reference_scores_are_given_or_marked_unknown(task):
    assert task.reference.known != (task.reference == UNKNOWN)
    assert task.reference.known == (not task.name.startswith("cone-"))
    if not task.reference.known:  # the score is the return then
        assert task.reference.normalize(12.5) == 12.5
    assert task.reference.random < task.reference.expert


@pytest.mark.filterwarnings("ignore:.*infinity")
def test_gymnasium_accepts_it_and_a_seed_fixes_an_episode(task):
    env = gymnasium.make(task.gym_id, disable_env_checker=True)
    check_env(env.unwrapped, skip_render_check=True)
    assert set(nvec_of(env.unwrapped)) == {task.bins}
    first, rewards = play(env.unwrapped, seed=3)
    again, same_rewards = play(env.unwrapped, seed=3)
    other, _ = play(env.unwrapped, seed=4)
    np.testing.assert_array_equal(first, again)
    assert rewards == same_rewards
    assert not np.array_equal(first, other)
    if isinstance(env.unwrapped, DiscretizedControl):  # the others start where they always do
        assert not np.array_equal(first[0], other[0])
    # later steps do not overwrite earlier observations
    assert len({array.__array_interface__["data"][0] for array in first}) == len(first)
    env.close()


def test_time_truncates_and_never_terminates():
    env = get_task("finger-spin").make()
    env.reset(seed=0)
    ends = [env.step(np.array([1, 1]))[2:4] for _ in range(1000)]
    assert ends == [(False, False)] * 999 + [(False, True)]


def test_bins_are_equally_spaced_with_both_ends():
    env = get_task("quadruped-walk", 10).make()
    spec = env._env.action_spec()
    np.testing.assert_array_equal(env._values[:, 0], spec.minimum)
    np.testing.assert_array_equal(env._values[:, -1], spec.maximum)
    np.testing.assert_allclose(np.diff(env._values, axis=1), np.diff(env._values, axis=1)[:, :1].repeat(9, 1))


def test_normalised_score_is_0_at_random_and_100_at_expert():
    reference = get_task("cheetah-run").reference
    assert reference.normalize(5.39) == 0
    assert reference.normalize(664.57) == pytest.approx(100)


@pytest.mark.parametrize(
    ("name", "bins", "said"),
    [("cheeta-run", 3, "Did you mean cheetah-run?"), ("cheetah-run", 4, "There is: 3."), ("dog-trot", 33, "30")],
)
def test_unknown_task_or_bins_lists_what_there_is(name, bins, said):
    with pytest.raises(UserError, match="There is no") as error:
        get_task(name, bins)
    assert said in str(error.value)
