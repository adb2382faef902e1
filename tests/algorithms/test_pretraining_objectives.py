"""Variational and contrastive action modelling beside masked modelling: numbers, addresses, exact resume."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_policies import random_actions

from spin_rl.algorithms.asm.masking import Masking, masked_cross_entropy
from spin_rl.algorithms.asm.model import ActionStructureModel, ASMSizes
from spin_rl.algorithms.asm.modelling import VariationalModelling, local_to_global, negative_elbo
from spin_rl.algorithms.asm.pretraining import ASMConfig, ASMPretraining
from spin_rl.algorithms.pretraining.episodes import spread
from spin_rl.errors import UserError

NVEC = (3, 2, 4)
TINY = ASMSizes(width=16, heads=2, layers=1, head_width=16, dropout=0.0)


def test_the_elbo_is_reconstruction_and_divergence_per_sub_action_in_plain_numpy():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(5, 3, 4)).astype(np.float32)
    for index, choices in enumerate(NVEC):
        logits[:, index, choices:] = -np.inf
    action = np.stack([generator.integers(choices, size=5) for choices in NVEC], -1)
    mean, log_variance = generator.normal(size=(2, 5, 7)).astype(np.float32)
    joint = np.zeros(5)
    for sample in range(5):
        for index in range(3):
            x = logits[sample, index].astype(np.float64)
            joint[sample] += x[action[sample, index]] - np.log(np.exp(x).sum())
    # KL(N(m, v) || N(0, 1)) = (m^2 + v - 1 - log v) / 2
    divergence = sum((m**2 + np.exp(w) - 1 - w) / 2 for m, w in zip(mean.T, log_variance.T, strict=True))
    loss, info = negative_elbo(*(torch.from_numpy(x) for x in (logits, action, mean, log_variance)), 0.5)
    assert float(loss) == pytest.approx(np.mean(-joint + 0.5 * divergence) / 3, rel=1e-5)
    assert float(info["reconstruction"]) == pytest.approx(np.mean(-joint) / 3, rel=1e-5)
    assert float(info["divergence"]) == pytest.approx(np.mean(divergence) / 3, rel=1e-5)


def test_the_contrast_is_each_token_against_the_mean_of_the_others_in_plain_numpy():
    tokens = np.random.default_rng(0).normal(size=(4, 3, 6))
    losses, hits = [], []
    for index in range(3):
        others = tokens[:, [j for j in range(3) if j != index]].mean(1)
        for sample in range(4):
            local = tokens[sample, index]
            cosines = others @ local / np.linalg.norm(others, axis=-1) / np.linalg.norm(local)
            scores = np.exp(cosines / 0.2)
            losses.append(-np.log(scores[sample] / scores.sum()))
            hits.append(scores.argmax() == sample)
    loss, info = local_to_global(torch.from_numpy(tokens), 0.2)
    assert float(loss) == pytest.approx(np.mean(losses), rel=1e-5)
    assert float(info["accuracy"]) == pytest.approx(np.mean(hits))


def test_a_variational_model_decodes_its_prior_mean_as_the_wholly_masked_model():
    torch.manual_seed(0)
    model = ActionStructureModel(3, NVEC, TINY)
    modelling = VariationalModelling(16, 5, 1.0)
    torch.nn.init.zeros_(modelling.latent.weight)
    observation, action = torch.randn(8, 3), random_actions(8, NVEC)
    _, info = modelling(model, observation, action)
    logits = model(observation, model.mask_tokens.expand(8, -1))
    expected, _ = masked_cross_entropy(logits, action, torch.ones_like(action, dtype=torch.bool))
    torch.testing.assert_close(info["reconstruction"], expected.detach())


def test_a_latent_carries_what_sub_actions_share():
    torch.manual_seed(0)
    model = ActionStructureModel(3, (2, 2, 2), TINY)
    modelling = VariationalModelling(16, 4, 1.0)
    optimizer = torch.optim.Adam([*model.parameters(), *modelling.parameters()], 5e-3)
    losses = []
    for _ in range(200):
        action = torch.randint(2, (32, 1)).expand(-1, 3)  # one coin, three times
        loss, _ = modelling(model, torch.zeros(32, 3), action)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    # log(2) for each sub-action on its own, a third of that with a latent; the bound stays above the entropy
    assert np.log(2) / 3 < np.mean(losses[-50:]) < 0.5


@pytest.mark.parametrize("objective", ["mam", "vam", "cam"])
def test_a_stopped_pretraining_goes_on_to_the_same_bits(toy, asm_config, tmp_path, objective):
    config = replace(asm_config, objective=objective, latent_width=4)
    whole = ASMPretraining(toy, config)
    before = whole.validate().objective_loss
    whole.train(60)
    stopped = ASMPretraining(toy, config)
    stopped.train(40)
    stopped.save(tmp_path)
    torch.manual_seed(99)
    resumed = ASMPretraining(toy, config)
    resumed.load(tmp_path)
    resumed.train(60)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert resumed.validate() == whole.validate()
    assert whole.validate().objective_loss < before


def test_the_heads_learn_nothing_from_a_contrast_and_all_else_does(toy, asm_config):
    pretraining = ASMPretraining(toy, replace(asm_config, objective="cam"))
    before = {name: value.clone() for name, value in pretraining.model.named_parameters()}
    pretraining.train(1)
    moved = {name for name, value in pretraining.model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if not name.startswith("heads.")}


def test_a_masked_model_keeps_the_address_it_had_before_there_were_other_objectives():
    masked = ASMConfig(sizes=TINY).identity()
    assert set(masked) == {
        *(
            "sizes",
            "masking",
            "learning_rate",
            "batch_size",
            "gradient_clip",
            "precision",
            "validation_fraction",
            "seed",
        )
    }
    assert ASMConfig(sizes=TINY, temperature=0.5, kl_weight=0.1).identity() == masked
    variational = ASMConfig(objective="vam").identity()
    assert {"objective", "kl_weight", "latent_width"} < set(variational)
    assert "temperature" not in variational
    assert ASMConfig(objective="cam", temperature=0.5).identity() != ASMConfig(objective="cam").identity()


def test_held_out_episodes_are_looked_at_at_the_rate_of_training(toy, asm_config):
    some, most = (
        ASMPretraining(toy, replace(asm_config, masking=Masking(rate))).validate().loss for rate in (0.15, 0.95)
    )
    assert some != most


def test_what_is_looked_at_is_spread_over_all_that_is_held_out():
    rows = np.arange(100, 200)
    np.testing.assert_array_equal(spread(rows, 4), [100, 133, 166, 199])
    assert spread(rows, 100) is rows


def test_what_cannot_be_pretrained_with_is_refused(toy, asm_config):
    with pytest.raises(UserError, match="mam"):
        ASMConfig(objective="man")
    with pytest.raises(UserError, match="temperature"):
        ASMConfig(objective="cam", temperature=0.0)
    lone = replace(toy, metadata=replace(toy.metadata, nvec=(3,)))
    with pytest.raises(UserError, match="has one: pretrain with mam or vam"):
        ASMPretraining(lone, replace(asm_config, objective="cam"))
