"""Policies: shapes with ragged spaces, log-probabilities against plain loops, sampling against log-probabilities."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_film import plain_film
from torch import nn
from torch.nn import functional

from spin_rl.algorithms.evaluation.batch_policy import ActingPolicy
from spin_rl.algorithms.methods import METHODS
from spin_rl.algorithms.policies import Policy
from spin_rl.algorithms.policies.autoregressive import AutoregressivePolicy
from spin_rl.algorithms.policies.base import choose
from spin_rl.algorithms.policies.bpr import BPRPolicy
from spin_rl.algorithms.policies.distilled import DistilledPolicy
from spin_rl.algorithms.policies.factored import FactoredPolicy
from spin_rl.algorithms.policies.slots import SlotPolicy
from spin_rl.algorithms.presets import get_preset
from tests.algorithms.toy_agent import POLICY_METHODS

TINY = get_preset("tiny")
ragged = st.lists(st.integers(1, 6), min_size=1, max_size=7).map(tuple)
each_method = pytest.mark.parametrize("method", POLICY_METHODS)
BOUNDED = ("spin-decode",)
"""Their ``log_probs`` is a lower bound, and they do not act sub-action by sub-action: test_masked_policy.py."""
each_exact_method = pytest.mark.parametrize("method", [name for name in POLICY_METHODS if name not in BOUNDED])


def build(method: str, nvec: tuple[int, ...], observation_size: int = 5, seed: int = 0) -> Policy:
    torch.manual_seed(seed)
    return METHODS[method].build(observation_size, nvec, TINY).eval()


def random_actions(count: int, nvec: tuple[int, ...]) -> torch.Tensor:
    return (torch.rand(count, len(nvec)) * torch.tensor(nvec)).long()


def choice_probabilities(policy: Policy, observation: torch.Tensor, action: torch.Tensor, index: int) -> torch.Tensor:
    """Probability (B, nvec[index]) of every choice of one sub-action after the others before it, by ``log_probs``."""
    columns = []
    for choice in range(policy.nvec[index]):
        changed = action.clone()
        changed[:, index] = choice
        columns.append(policy.log_probs(policy.features(observation), changed)[:, index].exp())
    return torch.stack(columns, -1)


@each_exact_method
@given(nvec=ragged, batch=st.integers(1, 4), seed=st.integers(0, 100))
@settings(max_examples=15, deadline=None)
def test_what_is_sampled_is_what_log_probs_says(method, nvec, batch, seed):
    """Each sub-action inverts the very distribution that teacher forcing gives it; all others have no probability."""
    policy = build(method, nvec, seed=seed)
    observation = 3 * torch.randn(batch, 5)
    uniforms = torch.rand(batch, len(nvec), dtype=torch.float64)
    uniforms[0] = 0.0
    uniforms[-1] = 1 - 2**-53  # the extremes reach past the last choice first
    with torch.no_grad():
        action = policy.act(policy.features(observation), uniforms)
        assert action.shape == (batch, len(nvec))
        assert policy.log_probs(policy.features(observation), action).shape == (batch, len(nvec))
        for index, choices in enumerate(nvec):
            assert bool((action[:, index] < choices).all())
            probabilities = choice_probabilities(policy, observation, action, index).double()
            torch.testing.assert_close(probabilities.sum(-1), torch.ones(batch).double(), atol=1e-5, rtol=0)
            upper = probabilities.cumsum(-1).gather(-1, action[:, index, None])[:, 0]
            lower = upper - probabilities.gather(-1, action[:, index, None])[:, 0]
            assert bool((lower <= uniforms[:, index] + 1e-5).all())
            assert bool((uniforms[:, index] <= upper + 1e-5).all())


@each_exact_method
def test_the_greedy_action_is_the_most_likely_choice_of_each(method):
    policy = build(method, (3, 2, 4, 5))
    for parameter in policy.parameters():
        parameter.data.mul_(2.0)  # so that the state matters
    observation = 3 * torch.randn(50, 5)
    with torch.no_grad():
        action = policy.act(policy.features(observation))
        for index in range(4):
            best = choice_probabilities(policy, observation, action, index).argmax(-1)
            assert torch.equal(action[:, index], best)
    assert len(action.unique(dim=0)) > 1


def plain_heads(heads: nn.Module, tokens: torch.Tensor, nvec: tuple[int, ...]) -> list[torch.Tensor]:
    """Logits (B, nvec[i]) of each sub-action from its own, unpadded head."""
    logits = []
    for index, choices in enumerate(nvec):
        hidden = functional.linear(tokens[:, index], heads.inner.weight[index].T, heads.inner.bias[index, 0])
        weight, bias = heads.outer.weight[index, :, :choices], heads.outer.bias[index, 0, :choices]
        logits.append(functional.linear(functional.gelu(hidden), weight.T, bias))
    return logits


def plain_trunk(trunk: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """The trunk as torch's own encoder layers, with the same weights."""
    for block in trunk.blocks:
        width = block.out.in_features
        layer = nn.TransformerEncoderLayer(
            width, block.heads, 2 * width, 0.0, functional.gelu, batch_first=True, norm_first=True
        )
        theirs = {
            "self_attn.in_proj_weight": block.query_key_value.weight,
            "self_attn.in_proj_bias": block.query_key_value.bias,
            "self_attn.out_proj.weight": block.out.weight,
            "self_attn.out_proj.bias": block.out.bias,
            "linear1.weight": block.ffn[0].weight,
            "linear1.bias": block.ffn[0].bias,
            "linear2.weight": block.ffn[3].weight,
            "linear2.bias": block.ffn[3].bias,
            "norm1.weight": block.attention_norm.weight,
            "norm1.bias": block.attention_norm.bias,
            "norm2.weight": block.ffn_norm.weight,
            "norm2.bias": block.ffn_norm.bias,
        }
        layer.load_state_dict(theirs)
        tokens = layer(tokens)  # in training mode, so that torch takes no fused path of its own
    return tokens


def plain_factored(policy: FactoredPolicy, observation: torch.Tensor, _: torch.Tensor) -> list[torch.Tensor]:
    first, second = policy.body[0], policy.body[-1]
    x = functional.relu(functional.linear(observation, first.weight, first.bias))
    x = functional.relu(functional.linear(x, second.weight, second.bias))
    most = max(policy.nvec)
    heads = [slice(index * most, index * most + choices) for index, choices in enumerate(policy.nvec)]
    return [functional.linear(x, policy.heads.weight[rows], policy.heads.bias[rows]) for rows in heads]


def plain_slots(policy: SlotPolicy, observation: torch.Tensor, _: torch.Tensor) -> list[torch.Tensor]:
    first, _gelu, second = policy.state_encoder.net
    state = functional.linear(observation, first.weight, first.bias)
    state = functional.linear(functional.gelu(state), second.weight, second.bias)
    width = policy.queries.shape[1]
    tokens = [state[:, k : k + width] for k in range(0, state.shape[1], width)]
    tokens += [query.expand(len(observation), -1) for query in policy.queries]
    mixed = plain_trunk(policy.trunk, torch.stack(tokens, 1))
    return plain_heads(policy.heads, mixed[:, -len(policy.nvec) :], policy.nvec)


def plain_bpr(policy: BPRPolicy, observation: torch.Tensor, _: torch.Tensor) -> list[torch.Tensor]:
    first, second = policy.encoder[0], policy.encoder[-1]
    hidden = (observation @ first.weight.T + first.bias).clamp(min=0)
    phi = (hidden @ second.weight.T + second.bias).clamp(min=0)
    return plain_heads(policy.heads, phi[:, None].expand(-1, len(policy.nvec), -1), policy.nvec)


def plain_student(policy: DistilledPolicy, observation: torch.Tensor, _: torch.Tensor) -> list[torch.Tensor]:
    student, tokens = policy.student, []
    for query in policy.queries:
        both = torch.cat([observation, query.expand(len(observation), -1)], -1)
        first = torch.cat([student.state.weight, student.query.weight], 1)
        x = functional.gelu(functional.linear(both, first, student.state.bias))
        x = functional.gelu(functional.linear(x, student.inner.weight, student.inner.bias))
        tokens.append(query + functional.linear(x, student.outer.weight, student.outer.bias))
    return plain_heads(policy.heads, torch.stack(tokens, 1), policy.nvec)


def plain_autoregressive(
    policy: AutoregressivePolicy, observation: torch.Tensor, action: torch.Tensor
) -> list[torch.Tensor]:
    cells = []
    for layer in range(policy.lstm.num_layers):
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        weights = {name: getattr(policy.lstm, f"{name}_l{layer}") for name in names}
        cell = nn.LSTMCell(weights["weight_ih"].shape[1], policy.lstm.hidden_size)
        cell.load_state_dict(weights)
        cells.append(cell)
    state = functional.relu(functional.linear(observation, policy.state.weight, policy.state.bias))
    previous = policy.tokens.weight[-1].expand(len(observation), -1)  # the start token
    memories = [None] * len(cells)
    logits = []
    for index, choices in enumerate(policy.nvec):
        x = torch.cat([state, previous], -1)
        for layer, cell in enumerate(cells):
            memories[layer] = cell(x, memories[layer])
            x = memories[layer][0]
        weight, bias = policy.heads.weight[index, :, :choices], policy.heads.bias[index, 0, :choices]
        logits.append(functional.linear(x, weight.T, bias))
        previous = policy.tokens.weight[action[:, index]]
    return logits


PLAIN = {
    "factored": plain_factored,
    "saint": plain_slots,
    "saint-film": plain_film,
    "saint-film-matched": plain_film,
    "spin": plain_slots,
    "spin-cached": plain_slots,
    "spin-distill": plain_student,
    "finetune": plain_slots,
    "autoregressive": plain_autoregressive,
    "factored-bc": plain_factored,
    "bpr": plain_bpr,
    "bpr-wide": plain_bpr,
    "saint-bc": plain_slots,
    "autoregressive-bc": plain_autoregressive,
}


@each_exact_method
@given(nvec=ragged, batch=st.integers(1, 3))
@settings(max_examples=10, deadline=None)
def test_log_probs_are_those_of_a_plain_loop_over_unpadded_heads(method, nvec, batch):
    policy = build(method, nvec)
    observation, action = torch.randn(batch, 5), random_actions(batch, nvec)
    with torch.no_grad():
        expected = [
            functional.log_softmax(logits, -1).gather(-1, action[:, index, None])[:, 0]
            for index, logits in enumerate(PLAIN[method](policy, observation, action))
        ]
        found = policy.log_probs(policy.features(observation), action)
        torch.testing.assert_close(found, torch.stack(expected, -1))


def test_choose_inverts_a_distribution():
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.tensor([[0.5, 0.2, 0.3, 0.0], [0.1, 0.9, 0.0, 0.0]])
    uniforms = torch.rand(40_000, 2, dtype=torch.float64, generator=generator)
    chosen = choose(probabilities.log().expand(40_000, 2, 4), uniforms)
    frequencies = torch.stack([(chosen == choice).float().mean(0) for choice in range(4)], -1)
    torch.testing.assert_close(frequencies, probabilities, atol=0.01, rtol=0)
    assert choose(probabilities.log(), torch.tensor([0.51, 0.11], dtype=torch.float64)).tolist() == [1, 1]
    assert choose(probabilities.log(), torch.tensor([0.69, 0.05], dtype=torch.float64)).tolist() == [1, 0]
    assert choose(probabilities.log(), torch.full((2,), 1 - 2**-53, dtype=torch.float64)).tolist() == [2, 1]


def test_choose_skips_choices_of_no_probability():
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf]])
    for uniform in (0.0, 0.5, 1 - 2**-53):
        assert choose(logits, torch.tensor([uniform], dtype=torch.float64)).item() == 1


@each_method
def test_acting_leaves_the_mode_and_the_generator_alone(method):
    """The evaluator may act in the middle of a training."""
    policy = build(method, (3, 2, 4)).train()
    acting = ActingPolicy(policy, torch.device("cpu"), sample=True)
    assert acting.draws == (9 if method == "spin-decode" else 3)
    observation, uniforms = torch.randn(6, 5).numpy(), torch.rand(6, acting.draws, dtype=torch.float64).numpy()
    state = torch.get_rng_state()
    first = acting.act(observation, uniforms)
    assert torch.equal(torch.get_rng_state(), state)  # no dropout was drawn: it is off
    assert policy.training
    assert (acting.act(observation, uniforms) == first).all()
    greedy = ActingPolicy(policy, torch.device("cpu"), sample=False)
    assert greedy.draws == 0
    expected = policy.eval().decide(torch.from_numpy(observation), None, sample=False).numpy()
    assert (greedy.act(observation, uniforms[:, :0]) == expected).all()


@each_method
def test_the_seed_decides_the_weights(method):
    first, again, other = (dict(build(method, (3, 2), seed=seed).named_parameters()) for seed in (1, 1, 2))
    for name, value in first.items():
        assert torch.equal(value, again[name])
        if "norm" not in name and "ffn_norm" not in name:
            assert not torch.equal(value, other[name]), name
