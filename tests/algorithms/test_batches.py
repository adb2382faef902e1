"""Minibatches: their draws and what is gathered."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spin_rl.algorithms.data.batches import DeviceTransitions, draw_indices

CPU = torch.device("cpu")


def draw(seed: int = 0, stream: int = 0, first: int = 0, updates: int = 20, batch: int = 64, size: int = 1000):
    return draw_indices(seed, stream, first, updates, batch, size, CPU)


@given(
    seed=st.integers(0, 2**31),
    first=st.integers(0, 10**6),
    cut=st.integers(1, 9),
    batch=st.integers(1, 300),
    size=st.integers(1, 2**31 - 1),
)
@settings(max_examples=50, deadline=None)
def test_however_the_updates_are_cut_the_draws_are_the_same(seed, first, cut, batch, size):
    whole = draw(seed, 0, first, 10, batch, size)
    parts = [draw(seed, 0, first, cut, batch, size), draw(seed, 0, first + cut, 10 - cut, batch, size)]
    assert torch.equal(torch.cat(parts), whole)
    assert whole.shape == (10, batch)
    assert 0 <= int(whole.min()) <= int(whole.max()) < size


def test_the_generator_of_torch_has_no_part_in_it():
    torch.manual_seed(0)
    first = draw()
    state = torch.get_rng_state()
    assert torch.equal(draw(), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_seeds_and_streams_draw_apart():
    draws = [draw(seed, stream) for seed, stream in ((0, 0), (1, 0), (0, 1), (1, 1), (12345, 0))]
    for i, one in enumerate(draws):
        for other in draws[:i]:
            assert float((one == other).float().mean()) < 0.01  # one in a thousand by chance
            # nor is one the other shifted
            assert len(np.intersect1d(one.flatten()[:3].unfold(0, 3, 1), other.flatten().unfold(0, 3, 1)[0])) < 3


def test_draws_are_uniform_and_independent():
    draws = draw(updates=500, batch=256, size=50).flatten().numpy()
    counts = np.bincount(draws, minlength=50)
    expected = len(draws) / 50
    assert ((counts - expected) ** 2 / expected).sum() < 100  # chi-squared, 49 degrees of freedom: 1 in 30,000
    pairs = np.bincount(draws[:-1] // 10 * 5 + draws[1:] // 10, minlength=25)
    expected = len(draws) / 25
    assert ((pairs - expected) ** 2 / expected).sum() < 66
    # consecutive batches share no more than chance has it
    big = draw(updates=2, batch=1000, size=10**6)
    assert len(np.intersect1d(big[0], big[1])) < 10


def test_what_is_gathered_is_what_the_dataset_holds(toy):
    data = DeviceTransitions(toy, CPU)
    indices = draw(updates=3, batch=40, size=data.size)
    batches = data.gather(indices)
    assert data.size == len(toy)
    for index in range(3):
        batch, expected = batches.at(index), toy.batch(indices[index].numpy())
        for name in ("observation", "action", "reward", "terminated", "next_observation"):
            np.testing.assert_array_equal(getattr(batch, name), getattr(expected, name))
    assert batches.terminated.dtype == torch.float32
    assert float(batches.terminated.sum()) > 0
    observation, action = data.observation_action(indices[0])
    np.testing.assert_array_equal(observation, batches.observation[0])
    np.testing.assert_array_equal(action, batches.action[0])


def test_only_the_given_rows_are_drawn_from(toy):
    rows = toy.transitions[5:9]
    data = DeviceTransitions(toy, CPU, rows)
    gathered = data.gather(torch.arange(4))
    np.testing.assert_array_equal(gathered.observation, toy.observations[rows])


def test_nothing_is_copied_on_a_cpu(toy):
    data = DeviceTransitions(toy, CPU)
    assert data._observations.data_ptr() == toy.observations.__array_interface__["data"][0]
