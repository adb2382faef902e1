"""Batched episodes: each depends on its number only, and all are counted."""

import numpy as np

from spin_rl.envs import rollout
from spin_rl.envs.behaviour.network import UniformRandom
from tests.toy import toy_task

TASK = toy_task()
POLICY = UniformRandom((3, 2, 4))


def test_batches_and_parts_change_nothing():
    whole = rollout(TASK.make, POLICY, episodes=23, seed=5, batch=7, record=True)
    single = rollout(TASK.make, POLICY, episodes=23, seed=5, batch=1, record=True)
    part = rollout(TASK.make, POLICY, episodes=3, seed=5, first_episode=20, record=True)
    for one, other in zip(whole.recorded, single.recorded, strict=True):
        np.testing.assert_array_equal(one.observations, other.observations)
        np.testing.assert_array_equal(one.actions, other.actions)
    np.testing.assert_array_equal(whole.returns[20:], part.returns)
    assert len({episode.observations.tobytes() for episode in whole.recorded}) == 23
    assert not np.array_equal(whole.returns, rollout(TASK.make, POLICY, episodes=23, seed=6).returns)


def test_short_episodes_are_not_favoured():
    """The first 60 episodes are those 60, whichever end first: their mean length is that of a loop over them."""
    batched = rollout(TASK.make, POLICY, episodes=60, seed=1, batch=20)
    single = rollout(TASK.make, POLICY, episodes=60, seed=1, batch=1)
    assert len(set(batched.lengths)) > 3
    np.testing.assert_array_equal(batched.lengths, single.lengths)


def test_an_episode_is_recorded_as_it_was():
    (episode,) = rollout(TASK.make, POLICY, episodes=1, seed=2, record=True).recorded
    env = TASK.make()
    generator = np.random.default_rng((2, 0))
    observation, _ = env.reset(seed=int(generator.integers(2**31)))
    np.testing.assert_array_equal(episode.observations[0], observation)
    for step, action in enumerate(episode.actions):
        observation, reward, terminated, truncated, _ = env.step(action)
        np.testing.assert_array_equal(episode.observations[step + 1], observation)
        assert episode.rewards[step] == reward
        assert (terminated or truncated) == (step == len(episode) - 1)
    assert episode.terminated == terminated
