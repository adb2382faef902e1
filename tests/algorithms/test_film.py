"""saint-film: the network that SAINT's authors describe, against plain NumPy loops over sub-actions and heads."""

import numpy as np
import pytest
import torch

from spin_rl.algorithms.methods import METHODS
from spin_rl.algorithms.networks.layers import DecisionHeads
from spin_rl.algorithms.policies.film import FilmPolicy, PostNormBlock
from spin_rl.algorithms.presets import get_preset
from spin_rl.errors import UserError

NVEC = (3, 2, 4)


def layer_norm(x: np.ndarray, layer: torch.nn.LayerNorm) -> np.ndarray:
    centred = x - x.mean()
    return centred / np.sqrt(np.square(centred).mean() + 1e-5) * array(layer.weight) + array(layer.bias)


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def linear(x: np.ndarray, layer: torch.nn.Linear) -> np.ndarray:
    return array(layer.weight) @ x + array(layer.bias)


def plain_mlp(x: np.ndarray, layers: list[torch.nn.Linear]) -> np.ndarray:
    for layer in layers[:-1]:
        x = np.maximum(linear(x, layer), 0.0)
    return linear(x, layers[-1])


def linears(module: torch.nn.Module) -> list[torch.nn.Linear]:
    return [layer for layer in module if isinstance(layer, torch.nn.Linear)]


def plain_block(tokens: list[np.ndarray], block: PostNormBlock) -> list[np.ndarray]:
    """One block on the tokens (D,) of one sample."""
    width = len(tokens[0])
    size = width // block.heads
    projected = [np.split(linear(x, block.query_key_value), 3) for x in tokens]
    outputs = []
    for query, _, _ in projected:
        attended = np.zeros(width)
        for head in range(block.heads):
            part = slice(head * size, (head + 1) * size)
            scores = np.array([query[part] @ key[part] / np.sqrt(size) for _, key, _ in projected])
            shares = np.exp(scores) / np.exp(scores).sum()
            attended[part] = sum(share * value[part] for share, (_, _, value) in zip(shares, projected, strict=True))
        y = layer_norm(attended + query, block.attention_norm)  # beside the projected query, not beside x
        outputs.append(layer_norm(y + plain_mlp(y, linears(block.ffn)), block.ffn_norm))
    return outputs


def plain_film(policy: FilmPolicy, observation: torch.Tensor, _: torch.Tensor | None = None) -> list[torch.Tensor]:
    """Logits (B, nvec[i]) of each sub-action."""
    rows = []
    for state in array(observation):
        gamma, beta = np.split(plain_mlp(state, linears(policy.film)), 2)
        tokens = [gamma * slot + beta for slot in array(policy.slots)]
        for block in policy.blocks:
            tokens = plain_block(tokens, block)
        row = []
        for index, (x, choices) in enumerate(zip(tokens, policy.nvec, strict=True)):
            for layer in policy.heads.layers[:-1]:
                x = np.maximum(x @ array(layer.weight[index]) + array(layer.bias[index, 0]), 0.0)
            last = policy.heads.layers[-1]
            row.append((x @ array(last.weight[index]) + array(last.bias[index, 0]))[:choices])
        rows.append(row)
    return [torch.tensor(np.stack(column), dtype=torch.float32) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_a_block_adds_the_projected_query_and_normalises_afterwards(heads):
    torch.manual_seed(0)
    block = PostNormBlock(8, heads)
    for norm in (block.attention_norm, block.ffn_norm):
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    tokens = torch.randn(2, 3, 8)
    expected = [plain_block(list(array(sample)), block) for sample in tokens]
    np.testing.assert_allclose(array(block(tokens)), expected, atol=1e-5)


@pytest.mark.parametrize(("head_layers", "layers"), [(1, 1), (2, 3), (4, 1)])
def test_the_logits_are_those_of_a_plain_loop_and_missing_choices_have_none(head_layers, layers):
    torch.manual_seed(0)
    policy = FilmPolicy(5, NVEC, 8, 2, layers, state_width=6, head_width=7, head_layers=head_layers)
    observation = torch.randn(3, 5)
    logits = policy.logits(observation)
    assert logits.shape == (3, 3, 4)
    for index, expected in enumerate(plain_film(policy, observation)):
        choices = NVEC[index]
        torch.testing.assert_close(logits[:, index, :choices], expected, atol=1e-5, rtol=1e-5)
        assert bool((logits[:, index, choices:] == -torch.inf).all())


def test_the_state_enters_through_film_alone():
    """With gamma 1 and beta 0, whatever the state, every state has the same distribution."""
    policy = FilmPolicy(5, NVEC, 8)
    policy.film[-1].weight.data.zero_()
    policy.film[-1].bias.data.copy_(torch.cat([torch.ones(8), torch.zeros(8)]))
    logits = policy.logits(torch.randn(4, 5))
    assert torch.equal(logits, logits[:1].expand(4, -1, -1))


def test_the_paper_preset_has_the_published_sizes_and_the_matched_one_those_of_the_trunk():
    published, matched = (METHODS[name].build(17, (3,) * 6, get_preset("paper")) for name in (
        "saint-film", "saint-film-matched",
    ))  # fmt: skip
    for policy, width, heads in ((published, 128, 1), (matched, 256, 4)):
        shapes = {name: tuple(parameter.shape) for name, parameter in policy.named_parameters()}
        expected = {
            "slots": (6, width),
            "film.0.weight": (128, 17), "film.0.bias": (128,),
            "film.2.weight": (2 * width, 128), "film.2.bias": (2 * width,),
            "heads.layers.0.weight": (6, width, 256), "heads.layers.0.bias": (6, 1, 256),
            "heads.layers.1.weight": (6, 256, 3), "heads.layers.1.bias": (6, 1, 3),
        }  # fmt: skip
        for block in range(3):
            for name, outputs, inputs in (
                ("query_key_value", 3 * width, width),
                ("ffn.0", 4 * width, width),
                ("ffn.2", 4 * width, 4 * width),
                ("ffn.4", width, 4 * width),
            ):
                expected[f"blocks.{block}.{name}.weight"] = (outputs, inputs)
                expected[f"blocks.{block}.{name}.bias"] = (outputs,)
            for name in ("attention_norm", "ffn_norm"):
                expected[f"blocks.{block}.{name}.weight"] = expected[f"blocks.{block}.{name}.bias"] = (width,)
        assert shapes == expected
        assert [block.heads for block in policy.blocks] == [heads] * 3


def test_reports_tell_it_from_the_spin_papers_variant():
    labels = [METHODS[name].label for name in ("saint", "saint-film", "saint-film-matched")]
    assert labels == ["SAINT", "SAINT-FiLM", "SAINT-FiLM (matched)"]
    assert "controlled variant" in METHODS["saint"].description
    assert all("authors" in METHODS[name].description for name in ("saint-film", "saint-film-matched"))


def test_sizes_that_there_cannot_be_are_refused():
    with pytest.raises(UserError, match=r"width of 8 .* 3 attention heads"):
        FilmPolicy(5, NVEC, 8, 3)
    with pytest.raises(UserError, match="0 layers: both must be at least 1"):
        FilmPolicy(5, NVEC, 8, head_layers=0)


def test_a_decision_mlp_reads_its_own_token():
    heads = DecisionHeads(4, NVEC, 5, 2)
    tokens = torch.randn(2, 3, 4, requires_grad=True)
    heads(tokens)[:, 1, 0].sum().backward()
    assert tokens.grad is not None
    assert (tokens.grad.abs().sum((0, 2)) > 0).tolist() == [False, True, False]
