"""Probes: what the linear one reads and what it calls independent, attention against PyTorch's own, the commands."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from scipy.optimize import minimize
from test_policies import random_actions
from torch import nn
from typer.testing import CliRunner

from spin_rl import cli
from spin_rl.algorithms.asm import probes
from spin_rl.algorithms.asm.files import load_asm
from spin_rl.algorithms.asm.model import ActionStructureModel, ASMSizes
from spin_rl.algorithms.asm.probes import attention_maps, attention_of_dataset, linear_probe, query_probe
from spin_rl.algorithms.pretraining.episodes import split_by_episode
from spin_rl.errors import UserError
from spin_rl.platform.reports.attention import attention_figure

SIZES = ASMSizes(width=16, heads=2, layers=2, state_tokens=2, head_width=8)


def build(nvec: tuple[int, ...] = (3, 2, 4)) -> ActionStructureModel:
    torch.manual_seed(0)
    return ActionStructureModel(3, nvec, SIZES).eval()


def acting(toy, nvec, act):
    """The toy's dataset with actions act(observations (rows, 3), generator) (rows, N) instead of its own."""
    actions = act(toy.observations, np.random.default_rng(0)).astype(np.int16)
    return replace(toy, actions=actions, metadata=replace(toy.metadata, nvec=nvec))


def test_the_classifiers_are_the_best_there_are_each_for_itself():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 80, 3, generator=generator)
    actions = torch.stack([torch.randint(n, (80,), generator=generator) for n in (3, 2)])
    actions[0] = torch.where(features[0, :, 0] > 0.3, 2, actions[0])
    classifier = probes._fit(features, actions, (3, 2))
    for index, choices in enumerate((3, 2)):
        x, y = features[index].double().numpy(), actions[index].numpy()

        def loss(flat, x=x, y=y, choices=choices):
            weight, bias = flat[: 3 * choices].reshape(3, choices), flat[3 * choices :]
            logits = x @ weight + bias
            return np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(80), y]) + 1e-5 * np.square(weight).sum()

        best = minimize(loss, np.zeros(4 * choices)).fun
        ours = (classifier.weight[index, :, :choices], classifier.bias[index, 0, :choices])
        assert loss(torch.cat([part.detach().flatten() for part in ours]).double().numpy()) == pytest.approx(
            best, abs=1e-4
        )


def test_what_the_state_says_is_read_and_what_it_does_not_say_is_not(toy):
    told = acting(toy, (3, 2, 4), lambda x, _: np.stack([1.0 + np.sign(x[:, 0]), x[:, 1] > 0, 3 * (x[:, 2] > 0)], 1))
    chance = acting(toy, (3, 2, 4), lambda x, g: g.integers((3, 2, 4), size=(len(x), 3)))
    read, guessed = (linear_probe(build(), data, validation_fraction=0.3) for data in (told, chance))
    assert min(read.per_slot) > 0.9 > max(read.majority)
    assert read.exact > 0.8
    assert max(guessed.per_slot) < 0.7
    assert guessed.exact < min(guessed.per_slot)
    training, held_out = split_by_episode(toy, 0.3, 0)
    assert (read.trained_on, read.held_out) == (len(training), len(held_out))


def test_right_together_is_told_from_right_by_chance(toy):
    def coin(x, generator):
        return generator.integers(2, size=(len(x), 1)).repeat(3, 1)

    together = linear_probe(build((2, 2, 2)), acting(toy, (2, 2, 2), coin), validation_fraction=0.3)
    assert together.per_slot == pytest.approx([0.5] * 3, abs=0.12)
    assert together.independent == pytest.approx(np.prod(together.per_slot))
    assert together.exact > 2 * together.independent


def test_states_that_are_easy_or_hard_are_no_dependence_and_shared_coins_are(toy):
    """Independent given the state, but sure where x > 0: above the product of the accuracies all the same."""

    def easy_or_hard(x, generator):
        return (generator.random((len(x), 3)) < np.where(x[:, :1] > 0, 1.0, 0.5)).astype(int)

    def coin(x, generator):
        return generator.integers(2, size=(len(x), 1)).repeat(3, 1)

    apart, together = (
        linear_probe(build((2, 2, 2)), acting(toy, (2, 2, 2), act), validation_fraction=0.5)
        for act in (easy_or_hard, coin)
    )
    assert apart.exact > apart.independent + 0.05
    assert apart.exact == pytest.approx(apart.given_state, abs=0.08)
    assert together.exact > 1.5 * together.given_state


def test_learned_queries_are_read_and_leave_the_model_as_it_was(toy):
    told = acting(toy, (3, 2, 4), lambda x, _: np.stack([1.0 + np.sign(x[:, 0]), x[:, 1] > 0, 3 * (x[:, 2] > 0)], 1))
    model = build()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    probe = query_probe(model, told, validation_fraction=0.3, steps=300, batch_size=64, learning_rate=3e-2)
    assert min(probe.per_slot) > 0.85 > max(probe.majority)
    training, held_out = split_by_episode(toy, 0.3, 0)
    assert (probe.trained_on, probe.held_out) == (len(training), len(held_out))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    short = [query_probe(model, told, seed=seed, steps=3) for seed in (0, 0, 1)]
    assert short[0] == short[1] != short[2]


def test_a_probe_is_no_matter_of_chance_and_leaves_the_model_as_it_was(toy):
    model = build()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = linear_probe(model, toy)
    torch.manual_seed(7)
    assert linear_probe(model, toy) == first
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    other_split = linear_probe(model, toy, seed=1)
    assert other_split != first


def test_attention_is_that_of_pytorchs_own_module():
    model = build()
    observation, tokens = torch.randn(6, 3), random_actions(6, (3, 2, 4))
    maps = attention_maps(model, observation, tokens)
    assert maps.shape == (2, 2, 3, 2 + 3)
    torch.testing.assert_close(maps.sum(-1), torch.ones(2, 2, 3))
    with torch.no_grad():
        x = torch.cat([model.state_encoder(observation), model.embed(tokens)], 1)
        for layer, block in enumerate(model.trunk.blocks):
            plain = nn.MultiheadAttention(16, 2, batch_first=True)
            plain.in_proj_weight.copy_(block.query_key_value.weight)
            plain.in_proj_bias.copy_(block.query_key_value.bias)
            normed = block.attention_norm(x)
            _, weights = plain(normed, normed, normed, average_attn_weights=False)  # (B, H, M + N, M + N)
            torch.testing.assert_close(maps[layer], weights[:, :, 2:].mean(0))
            x = block(x)


def test_a_model_of_other_spaces_is_refused_naming_both(toy):
    for call in (linear_probe, query_probe, attention_of_dataset):
        with pytest.raises(UserError, match=r"\(3, \(3, 3\)\), .* has \(3, \(3, 2, 4\)\)"):
            call(build((3, 3)), toy)


def test_the_picture_names_every_token():
    figure = attention_figure(np.full((2, 3, 2, 4), 0.25), ("hip", "knee"), "a title")
    maps = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title().split(" · ")[0] for axis in maps[:4]] == [
        *(f"layer 1, head {head}" for head in (1, 2, 3)),
        "layer 2, head 1",
    ]
    assert "50% to the state" in maps[0].get_title()
    assert [label.get_text() for label in maps[-1].get_xticklabels()] == ["state 1", "state 2", "hip", "knee"]
    assert [label.get_text() for label in maps[3].get_yticklabels()] == ["hip", "knee"]


def test_the_commands_probe_a_stored_model_on_its_own_dataset(toy, asm_checkpoint, tmp_path, monkeypatch):
    opened = {}
    monkeypatch.setattr("spin_rl.commands.probe.open_dataset", lambda *names, **more: opened.update(more) or toy)
    shutil.copytree(Path(asm_checkpoint.path).parents[3], tmp_path / "asm")
    command = partial(CliRunner().invoke, cli.app, catch_exceptions=False)

    def run(arguments):
        return command(["probe", *arguments])

    key, where = asm_checkpoint.key, ["--storage", str(tmp_path)]
    said = run(["linear", key, *where]).stdout
    assert opened["version"] == 1
    (file,) = tmp_path.glob("probes/toy-4/*/linear.json")
    measured = json.loads(file.read_text())
    expected = linear_probe(load_asm(Path(asm_checkpoint.path)), toy)
    assert measured["per_slot"] == list(expected.per_slot)
    assert measured["independent"] == expected.independent
    assert f"{expected.exact:.2%}" in said
    path = run(["attention", key, "--masked", *where]).stdout.strip()
    assert path.endswith("attention-masked.png")
    assert np.ptp(imread(path)[..., :3]) > 0.5

    another = replace(toy, metadata=replace(toy.metadata, digest="f" * 32))
    monkeypatch.setattr("spin_rl.commands.probe.open_dataset", lambda *_, **__: another)
    with pytest.raises(UserError, match="has ffffffffffff: name the --root"):
        run(["linear", key, *where])
