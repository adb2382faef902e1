"""Behaviour trainings that start from the weights of another: real trainings of one round on quadruped-walk."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from spin_rl.envs import get_task
from spin_rl.envs.behaviour import library
from spin_rl.envs.behaviour.growth import grown, start_from
from spin_rl.envs.behaviour.network import Architecture, DecoupledQ
from spin_rl.envs.behaviour.settings import BehaviourSettings, read_settings
from spin_rl.envs.behaviour.training import BehaviourTraining
from spin_rl.errors import UserError

COARSE = BehaviourSettings(envs=2, width=8, symlog=True, normalize=True, evaluation_episodes=1)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("coarse")
    torch.set_num_threads(1)
    list(BehaviourTraining(get_task("quadruped-walk", 3), COARSE, folder).train(2000))
    return folder / "snapshots/000002000.safetensors"


def test_a_new_choice_lies_between_its_neighbours():
    torch.manual_seed(0)
    coarse, fine = DecoupledQ(4, (3, 3), 8), DecoupledQ(4, (5, 5), 8)
    fine.load_state_dict(grown(coarse.state_dict(), (3, 3), (5, 5)))
    before, after = coarse(torch.ones(6, 4)), fine(torch.ones(6, 4))
    torch.testing.assert_close(after[..., ::2], before)
    torch.testing.assert_close(after[..., 1::2], (before[..., 1:] + before[..., :-1]) / 2)


@pytest.mark.parametrize("finer", [(5, 5), (5, 4, 5)])
def test_sub_actions_that_do_not_match_cannot_grow(finer):
    with pytest.raises(UserError, match=r"choices \(3, 3, 3\) cannot be grown to choices"):
        grown(DecoupledQ(4, (3, 3, 3), 8).state_dict(), (3, 3, 3), finer)


def test_a_training_grows_from_a_coarser_one_and_resumes(snapshot, tmp_path):
    task = get_task("quadruped-walk", 10)
    settings, start = start_from(snapshot, task, replace(COARSE, width=16, symlog=False, envs=4, normalize=False))
    assert (settings.architecture, settings.normalize, settings.envs) == (Architecture(8, True), True, 4)
    trainer = BehaviourTraining(task, replace(settings, warmup_steps=4000), tmp_path, start=start)
    coarse = COARSE.architecture.network(78, (3,) * 12)
    coarse.load_state_dict(load_file(snapshot))
    observation = 3 * torch.randn(50, 78)
    there = coarse(observation)
    for network in (
        trainer.learner.network,
        trainer.learner.target,
    ):  # every greedy action is that of the coarse network
        choice = network(observation).argmax(-1) / 9
        np.testing.assert_allclose(choice[there.argmax(-1) == 0], 0)
        np.testing.assert_allclose(choice[there.argmax(-1) == 2], 1)
        np.testing.assert_allclose(choice[there.argmax(-1) == 1], 0.5, atol=0.06)
    assert trainer._epsilon(1) == settings.epsilon_final  # it explores no more than at its end
    center = trainer.learner.network.center.clone()
    list(trainer.train(4000, checkpoint_seconds=0))
    torch.testing.assert_close(trainer.learner.network.center, center)  # initial weights keep their scaling
    again = read_settings(tmp_path)
    assert again is not None
    assert BehaviourTraining(task, again, tmp_path).settings.started_from == settings.started_from


def test_a_training_starts_from_the_weights_of_one_with_other_settings(snapshot, tmp_path):
    task = get_task("quadruped-walk", 3)
    settings, start = start_from(snapshot, task, replace(COARSE, gamma=0.9))
    trainer = BehaviourTraining(task, settings, tmp_path, start=start)
    assert trainer.settings.gamma == 0.9
    for name, tensor in load_file(snapshot).items():
        torch.testing.assert_close(trainer.learner.network.state_dict()[name], tensor)


def test_a_finer_training_starts_with_the_critics_of_a_coarser_one(tmp_path):
    coarse, finer = get_task("quadruped-walk", 3), get_task("quadruped-walk", 10)
    sac = replace(COARSE, algorithm="sac", critics=2, warmup_steps=1900, steps_per_update=2)
    before = BehaviourTraining(coarse, sac, tmp_path / "coarse")
    list(before.train(2000, checkpoint_seconds=0))
    settings, start = start_from(tmp_path / "coarse", finer, replace(sac, critics=1))
    assert settings.critics == 2
    trainer = BehaviourTraining(finer, settings, tmp_path / "finer", start=start)
    for critic in (trainer.learner.critic, trainer.learner.target):
        for name, tensor in before.learner.critic.state_dict().items():
            torch.testing.assert_close(critic.state_dict()[name], tensor)
    assert trainer.learner.log_temperature == before.learner.log_temperature != math.log(0.01)
    scaled = torch.randn(20, 78)
    torch.testing.assert_close(  # the extreme choices keep their logits
        trainer.learner.network.forward_scaled(scaled)[..., [0, 9]],
        before.learner.network.forward_scaled(scaled)[..., [0, 2]],
    )


def test_a_training_starts_from_a_policy_that_is_shipped_or_lies_beside_its_card(tmp_path):
    task = get_task("quadruped-walk", 10)
    shipped = library.SHIPPED / "quadruped-walk-3/expert.safetensors"
    for name in ("expert.safetensors", "expert.json"):
        shutil.copy(shipped.with_name(name), tmp_path)
    settings, start = start_from(Path("quadruped-walk-3/expert"), task, COARSE)
    assert (settings.width, settings.normalize) == (512, False)  # as its card says
    trainer = BehaviourTraining(task, settings, tmp_path / "training", start=start)
    there, _ = library.load_policy(get_task("quadruped-walk", 3), "expert")
    observation = torch.randn(20, 78)
    torch.testing.assert_close(
        trainer.learner.network(observation)[..., [0, 9]], there.network(observation)[..., [0, 2]]
    )
    again, _ = start_from(tmp_path / "expert.safetensors", task, COARSE)
    assert again == settings
    (tmp_path / "expert.safetensors").write_bytes(shipped.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match=r"is not the file that its card expert\.json describes"):
        start_from(tmp_path / "expert.safetensors", task, COARSE)


def test_a_training_without_a_checkpoint_cannot_be_started_from(snapshot, tmp_path):
    (tmp_path / "config.json").write_text((snapshot.parent.parent / "config.json").read_text())
    with pytest.raises(UserError, match="is not a behaviour training with a checkpoint"):
        start_from(tmp_path, get_task("quadruped-walk", 10), COARSE)


def test_a_training_started_from_other_weights_is_not_resumed(snapshot, tmp_path):
    task = get_task("quadruped-walk", 10)
    settings, start = start_from(snapshot, task, COARSE)
    BehaviourTraining(task, settings, tmp_path, start=start)
    with pytest.raises(UserError, match=r"other settings \(started_from\)"):
        BehaviourTraining(task, replace(settings, started_from="0" * 64), tmp_path, start=start)
    with pytest.raises(UserError, match="give --start-from again, as when the training started"):
        BehaviourTraining(task, settings, tmp_path)


def test_anything_but_a_coarser_training_is_refused(snapshot, tmp_path):
    finer = tmp_path / "finer/snapshots/000002000.safetensors"
    finer.parent.mkdir(parents=True)
    finer.write_bytes(snapshot.read_bytes())
    settings = json.loads((snapshot.parent.parent / "config.json").read_text()) | {"bins": 10}
    (finer.parent.parent / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match="is of quadruped-walk-10: quadruped-walk-3 cannot start from it"):
        start_from(finer, get_task("quadruped-walk", 3), COARSE)
    with pytest.raises(UserError, match="is of quadruped-walk-3"):
        start_from(snapshot, get_task("dog-trot", 10), COARSE)
    (tmp_path / "weights.safetensors").touch()
    with pytest.raises(
        UserError, match=r"is not a behaviour training with a checkpoint .* not a snapshot .* and not a shipped policy"
    ):
        start_from(tmp_path / "weights.safetensors", get_task("quadruped-walk", 10), COARSE)
