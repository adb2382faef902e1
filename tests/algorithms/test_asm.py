"""The action structure model: its shapes, whose embedding is whose, and that tokens are told apart by content only."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_policies import plain_heads, plain_trunk, ragged, random_actions
from torch.nn import functional

from spin_rl.algorithms.asm.model import ActionStructureModel, ASMSizes

SIZES = ASMSizes(width=16, heads=2, layers=2, head_width=8)


def build(nvec: tuple[int, ...], sizes: ASMSizes = SIZES) -> ActionStructureModel:
    torch.manual_seed(0)
    return ActionStructureModel(5, nvec, sizes).eval()


@given(nvec=ragged, batch=st.integers(1, 3), state_tokens=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_logits_are_those_of_plain_layers_over_tables_of_their_own(nvec, batch, state_tokens):
    model = build(nvec, ASMSizes(width=16, heads=2, layers=2, head_width=8, state_tokens=state_tokens))
    masked = torch.rand(batch, len(nvec)) < 0.5
    tokens = torch.where(masked, torch.tensor(nvec), random_actions(batch, nvec))
    observation = torch.randn(batch, 5)
    with torch.no_grad():
        logits = model(observation, tokens)
        first, _, second = model.state_encoder.net
        state = functional.linear(functional.gelu(first(observation)), second.weight, second.bias)
        mixed = list(state.split(16, -1))
        start = 0
        for index, choices in enumerate(nvec):
            table = model.embeddings.weight[start : start + choices + 1]
            mixed.append(table[tokens[:, index]])
            start += choices + 1
        assert start == len(model.embeddings.weight)
        expected = plain_heads(model.heads, plain_trunk(model.trunk, torch.stack(mixed, 1))[:, state_tokens:], nvec)
    assert logits.shape == (batch, len(nvec), max(nvec))
    for index, choices in enumerate(nvec):
        torch.testing.assert_close(logits[:, index, :choices], expected[index])
        assert bool((logits[:, index, choices:] == -torch.inf).all())


def test_permuting_the_tokens_permutes_the_output():
    model = build((3, 3, 3, 3, 3))
    tokens = torch.randn(2, 6, 16)
    order = torch.tensor([0, 3, 5, 1, 2, 4])
    with torch.no_grad():
        mixed = model.trunk(tokens)
        torch.testing.assert_close(model.trunk(tokens[:, order]), mixed[:, order])
    assert not torch.allclose(mixed[:, order], mixed)


def test_every_token_sees_every_other_and_the_state():
    model = build((3, 2, 4))
    tokens = torch.randn(1, 4, 16, requires_grad=True)
    for index in range(4):
        (gradient,) = torch.autograd.grad(model.trunk(tokens)[0, index].square().sum(), tokens)
        assert bool((gradient.abs().sum(-1) > 0).all())


def test_the_mask_has_the_last_row_of_each_table():
    model = build((3, 2, 4))
    assert model.mask_tokens.tolist() == [3, 2, 4]
    torch.testing.assert_close(model.mask_embeddings(), model.embeddings.weight[[3, 6, 11]])
