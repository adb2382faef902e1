"""Pretraining: it learns, it is seeded, it goes on to the same bits, and held-out episodes stay held out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from spin_rl.algorithms.asm.files import load_asm, save_asm
from spin_rl.algorithms.asm.masking import Masking
from spin_rl.algorithms.asm.pretraining import ASMPretraining
from spin_rl.algorithms.pretraining.episodes import split_by_episode
from spin_rl.errors import UserError
from tests.algorithms.toy_agent import assert_same_bits


@pytest.mark.parametrize("variant", [{}, {"precision": "bfloat16", "masking": Masking(variable=True)}])
def test_a_pretraining_that_is_cut_goes_on_to_the_same_bits(toy, asm_config, tmp_path, variant):
    config = replace(asm_config, **variant)
    straight = ASMPretraining(toy, config)
    straight.train(70)

    first = ASMPretraining(toy, config)
    first.train(3)
    first.validate()  # looks, and leaves no trace
    first.train(11)
    (tmp_path / "11").mkdir()
    first.save(tmp_path / "11")
    torch.randn(100)
    second = ASMPretraining(toy, config)
    second.load(tmp_path / "11")
    assert (second.step, second.seconds) == (11, first.seconds)
    second.train(70)

    for name, run in (("straight", straight), ("second", second)):
        (tmp_path / name).mkdir()
        run.save(tmp_path / name)
    for file in ("model.safetensors", "training.safetensors"):
        assert_same_bits(load_file(tmp_path / "straight" / file), load_file(tmp_path / "second" / file))
    assert straight.validate() == second.validate()


def test_the_seed_has_its_effect(toy, asm_config):
    models = []
    for seed in (1, 1, 2):
        torch.randn(10)
        run = ASMPretraining(toy, replace(asm_config, seed=seed))
        run.train(5)
        models.append(run.model.state_dict())
    assert_same_bits(models[0], models[1])
    assert not torch.equal(models[0]["embeddings.weight"], models[2]["embeddings.weight"])


def test_it_learns_what_there_is_to_learn(toy, asm_config):
    """Actions that are all the same function of the first: from one of them the others follow."""
    actions = np.zeros_like(toy.actions)
    actions[:, 0] = np.arange(len(actions)) % 2
    actions[:, 1], actions[:, 2] = actions[:, 0], 3 * actions[:, 0]
    run = ASMPretraining(
        replace(toy, actions=actions), replace(asm_config, learning_rate=3e-3, masking=Masking(rate=0.3))
    )
    before = run.validate()
    losses = []
    run.train(400, lambda step, loss: losses.append((step, loss)))
    after = run.validate()
    assert [step for step, _ in losses] == list(range(50, 401, 50))
    assert after.accuracy > 0.85 > 0.7 > before.accuracy
    assert after.loss < 0.3 < before.loss
    assert 0.3 < after.full_accuracy < 0.7  # nothing to go by: a coin for all three


def test_whole_episodes_are_held_out(toy):
    training, held_out = split_by_episode(toy, 0.2, 0)
    assert sorted([*training, *held_out]) == sorted(toy.transitions)
    episode = np.repeat(np.arange(len(toy.episode_offsets) - 1), np.diff(toy.episode_offsets))
    of_row = dict(zip(toy.transitions.tolist(), episode.tolist(), strict=True))
    sides = [{of_row[row] for row in rows.tolist()} for rows in (training, held_out)]
    assert not sides[0] & sides[1]
    assert len(sides[1]) == round(0.2 * (episode[-1] + 1))
    again, other = split_by_episode(toy, 0.2, 0)[1], split_by_episode(toy, 0.2, 1)[1]
    np.testing.assert_array_equal(held_out, again)
    assert set(other.tolist()) != set(held_out.tolist())


def test_a_dataset_of_one_episode_can_be_pretrained_on(toy, asm_config):
    end = int(toy.episode_offsets[1])
    lone = replace(toy, transitions=toy.transitions[:end], episode_offsets=toy.episode_offsets[:2])
    run = ASMPretraining(lone, asm_config)
    run.train(2)
    assert run.steps_per_epoch == -(-end // 32)
    assert np.isfinite(run.validate().loss)


def test_a_loss_that_is_not_finite_is_said(toy, asm_config):
    run = ASMPretraining(toy, replace(asm_config, learning_rate=1e30))
    with pytest.raises(UserError, match=r"loss became nan at step .*smaller learning rate"):
        run.train(20)


def test_an_unknown_precision_is_refused(asm_config):
    with pytest.raises(UserError, match="float32 or bfloat16, not 'float8'"):
        replace(asm_config, precision="float8")


def test_a_model_is_read_as_it_was_written(toy, asm_config, tmp_path):
    model = ASMPretraining(toy, asm_config).model
    save_asm(model, tmp_path)
    read = load_asm(tmp_path)
    assert_same_bits(read.state_dict(), model.state_dict())
    assert (read.nvec, read.sizes) == (model.nvec, model.sizes)


@pytest.mark.parametrize("damage", ["missing", "foreign", "cut", "shape", "not-json"])
def test_a_model_that_cannot_be_read_names_its_folder_and_the_command(toy, asm_config, tmp_path, damage):
    save_asm(ASMPretraining(toy, asm_config).model, tmp_path)
    weights, shape = tmp_path / "model.safetensors", tmp_path / "model.json"
    match damage:
        case "missing":
            weights.unlink()
        case "foreign":
            shape.write_text("[1, 2]")
        case "cut":
            weights.write_bytes(weights.read_bytes()[:-100])
        case "shape":
            shape.write_text(shape.read_text().replace('"width": 16', '"width": 32'))
        case "not-json":
            shape.write_text("{")
    with pytest.raises(UserError, match=rf"{tmp_path} holds no .* that can be read .*spin-rl pretrain"):
        load_asm(tmp_path)
