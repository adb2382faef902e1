"""Masked action modelling: what is hidden and how often, and the loss on it against plain NumPy."""

import numpy as np
import pytest
import torch
from test_policies import random_actions

from spin_rl.algorithms.asm.masking import Masking, mask_actions, masked_cross_entropy
from spin_rl.errors import UserError

NVEC = (3, 2, 40)
COUNT = 40_000


def masked(masking: Masking, count: int = COUNT, seed: int = 0):
    torch.manual_seed(seed)
    action = random_actions(count, NVEC)
    return action, mask_actions(action, torch.tensor(NVEC), masking)


def test_the_fixed_rate_selects_replaces_and_keeps_in_its_shares():
    action, (tokens, selected) = masked(Masking())
    nvec = torch.tensor(NVEC)
    np.testing.assert_allclose(selected.float().mean(0), 0.15, atol=0.01)
    assert torch.equal(tokens[~selected], action[~selected])
    is_mask = tokens == nvec
    assert not (is_mask & ~selected).any()
    np.testing.assert_allclose(is_mask[selected].float().mean(), 0.8, atol=0.01)
    # a uniform draw hits what was there once in nvec[i] times: only the rest shows as changed
    for index, choices in enumerate(NVEC):
        mine = selected[:, index]
        changed = (tokens != action)[:, index] & ~is_mask[:, index]
        assert float(changed[mine].float().mean()) == pytest.approx(0.1 * (1 - 1 / choices), abs=0.015)
    drawn = tokens[:, 2][selected[:, 2] & (tokens != action)[:, 2] & ~is_mask[:, 2]]
    assert (int(drawn.min()), int(drawn.max())) == (0, 39)
    assert float(drawn.float().mean()) == pytest.approx(19.5, abs=1.5)
    # selection is independent of the sub-action and of the kind: joint selection is the product
    assert float((selected[:, 0] & selected[:, 1]).float().mean()) == pytest.approx(0.15**2, abs=0.004)


def test_the_variable_rate_masks_a_fifth_wholly_and_the_rest_at_a_rate_of_their_own():
    action, (tokens, selected) = masked(Masking(variable=True))
    assert torch.equal(tokens, torch.where(selected, torch.tensor(NVEC), action))
    # a sample at a uniform rate selects k of 3 with probability 1/4 each; a fifth are masked wholly besides
    counts = np.bincount(selected.sum(1).numpy(), minlength=4) / COUNT
    np.testing.assert_allclose(counts, [0.2, 0.2, 0.2, 0.4], atol=0.01)


@pytest.mark.parametrize("masking", [Masking(), Masking(variable=True, fully_masked=0.0)])
def test_at_least_one_is_selected_in_a_batch(masking):
    lone = [int(masked(masking, 1, seed)[1].selected.sum()) for seed in range(60)]
    assert min(lone) == 1
    few = np.array([masked(masking, 1, seed)[1].selected[0].tolist() for seed in range(60)])
    assert few.any(0).all()  # it is not always the same one


def test_the_seed_decides():
    first, again, other = (masked(Masking(), 50, seed)[1] for seed in (1, 1, 2))
    assert torch.equal(first.tokens, again.tokens)
    assert not torch.equal(first.selected, other.selected)


def test_the_loss_is_the_mean_over_the_selected_in_plain_numpy():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(5, 3, 4)).astype(np.float32)
    for index, choices in enumerate((3, 2, 4)):
        logits[:, index, choices:] = -np.inf
    action = np.stack([generator.integers(choices, size=5) for choices in (3, 2, 4)], -1)
    selected = generator.random((5, 3)) < 0.4
    losses, hits = [], []
    for row, index in zip(*np.nonzero(selected), strict=True):
        x = logits[row, index].astype(np.float64)
        losses.append(np.log(np.exp(x).sum()) - x[action[row, index]])
        hits.append(x.argmax() == action[row, index])
    tensors = (torch.from_numpy(array) for array in (logits, action, selected))
    loss, info = masked_cross_entropy(*tensors)
    assert 1 < len(losses) < 15
    assert float(loss) == pytest.approx(np.mean(losses), rel=1e-6)
    assert float(info["accuracy"]) == pytest.approx(np.mean(hits))
    assert float(info["loss"]) == float(loss)


@pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"rate": 1.5}, {"mask": 0.95}, {"randomise": -0.1}])
def test_impossible_rates_are_refused(wrong):
    with pytest.raises(UserError, match="masking rate lies in"):
        Masking(**wrong)
