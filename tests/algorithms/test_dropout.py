"""The cheap dropout does what torch's does."""

import pytest
import torch

from spin_rl.algorithms.networks.dropout import Dropout, dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_dropped_and_the_scale(p):
    torch.manual_seed(0)
    x = torch.randn(400, 501)
    y = dropout(x, p, True)
    dropped = y == 0
    assert float(dropped.float().mean()) == pytest.approx(p, abs=0.005)
    torch.testing.assert_close(y[~dropped], x[~dropped] / (1 - p), rtol=1e-4, atol=0)
    assert float(dropped.float().mean(0).std()) < 0.03  # no column is favoured
    neighbours = (dropped[:, :-1] & dropped[:, 1:]).float().mean()
    assert float(neighbours) == pytest.approx(p * p, abs=0.01)  # four of them share one draw


def test_the_generator_decides():
    x = torch.ones(7, 9)
    torch.manual_seed(3)
    first, second = dropout(x, 0.5, True), dropout(x, 0.5, True)
    torch.manual_seed(3)
    assert torch.equal(dropout(x, 0.5, True), first)
    assert not torch.equal(first, second)


def test_off_in_evaluation_and_at_zero():
    x = torch.randn(5, 5)
    state = torch.get_rng_state()
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0).train()(x), x)
    assert torch.equal(torch.get_rng_state(), state)
    assert bool((Dropout(0.5).train()(torch.ones(100)) == 0).any())


def test_the_gradient_has_the_mask_of_the_output():
    torch.manual_seed(0)
    x = torch.randn(33, 3, requires_grad=True)
    y = dropout(x, 0.25, True)
    y.sum().backward()
    torch.testing.assert_close(x.grad, (y != 0).float() / 0.75)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_type_stays(dtype):
    assert dropout(torch.ones(6, dtype=dtype), 0.5, True).dtype == dtype
