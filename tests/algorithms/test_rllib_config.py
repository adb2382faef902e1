"""Configurations: what does not fit is refused before anything is built, in a sentence that names both sides."""

from pathlib import Path

import pytest

from spin_rl.algorithms.rllib import ALGORITHMS, FactoredConfig, OfflineConfig, SPINConfig
from spin_rl.envs import get_task
from spin_rl.errors import UserError

CHEETAH, FINGER = get_task("cheetah-run").gym_id, get_task("finger-spin").gym_id


def config(data: Path, environment: str = CHEETAH, **training: object) -> FactoredConfig:
    made = FactoredConfig().environment(environment)
    return made.offline_data(input_=[f"{data}/cheetah-run-3/medium-expert-v1"]).training(
        **{"preset": "tiny"} | training
    )


def test_the_dataset_says_the_spaces_and_the_preset_the_sizes(small_data):
    made = config(small_data, lr=1e-3, gamma=0.9, expectile=0.7, network={"policy_width": 24, "asm": {"layers": 2}})
    made.validate()
    spec = made.debugging(seed=4).settings.agent_spec()
    assert (spec.observation_size, spec.nvec, spec.seed) == (17, (3,) * 6, 4)
    assert (spec.preset.policy_width, spec.preset.asm.layers, spec.preset.asm.width) == (24, 2, 16)
    settings = spec.objective
    assert (settings.learning_rate, settings.gamma, settings.expectile, settings.beta) == (1e-3, 0.9, 0.7, 3.0)


@pytest.mark.parametrize(
    ("training", "said"),
    [
        ({"objective": "iqll"}, "no objective 'iqll'. Did you mean iql.*There is: .*iql"),
        ({"preset": "smal"}, "no preset 'smal'. Did you mean small.*There is: paper, small, tiny"),
        ({"updates_per_iteration": 300, "evaluate_every": 1000}, r"\(1000\) must be a multiple of .*\(300\)"),
        ({"updates_per_iteration": 0}, r"must be a multiple of updates_per_iteration \(0\)"),
        ({"lr_decay": "linear", "lr_decay_updates": 0}, "lr_decay=linear .* lr_decay_updates=0 does not say"),
        ({"gradient_clip": -1.0}, r"gradient_clip=-1.0 is not positive"),
        ({"precision": "tf32"}, "precision=tf32 is a format of NVIDIA GPUs, the device is cpu"),
        ({"precision": "float16"}, "no precision 'float16'.*float32, tf32, bfloat16"),
        ({"device": "cuda", "onednn": True}, "onednn=True .* on a CPU, the device is cuda"),
        ({"device": "gpu"}, "device=gpu is no device: use auto"),
        ({"seeds_per_trial": 0}, "seeds_per_trial=0 must be a whole number"),
        ({"network": {"policy_widht": 3}}, "'policy_widht': 3.* names a size that there is not"),
        ({"network": {"asm": {"depth": 3}}}, "'depth': 3.* names a size that there is not"),
    ],
)
def test_a_setting_that_there_is_not_is_refused(small_data, training, said):
    with pytest.raises(UserError, match=said):
        config(small_data, **training).validate()


@pytest.mark.parametrize(
    ("rllib", "training", "said"),
    [
        ({"num_learners": 3}, {"train_batch_size": 2}, "minibatch of 2 cannot be shared by 3 learners"),
        ({"num_learners": 2}, {"seeds_per_trial": 3}, "seeds_per_trial=3 .*num_learners=2 .*leave one"),
        ({"evaluation_num_env_runners": 2}, {}, "evaluation_num_env_runners=2 .*training.evaluation_episodes="),
    ],
)
def test_ways_to_share_the_work_that_do_not_fit_are_refused_with_both_sides(small_data, rllib, training, said):
    made = config(small_data, **training).update_from_dict(rllib)
    with pytest.raises(UserError, match=said):
        made.validate()


def test_learners_share_a_minibatch_or_have_one_each(small_data):
    assert config(small_data).learners(num_learners=2).settings.agent_spec().batch_size == 256
    each = config(small_data, train_batch_size_per_learner=100).learners(num_learners=2)
    assert each.settings.agent_spec().batch_size == 200
    assert OfflineConfig().update_from_dict(each.plain()).settings.batch_size == 200


@pytest.mark.parametrize(
    ("cpus", "learners", "given", "overlaps", "threads"),
    [
        (1, 0, None, False, 1),
        (4, 0, None, True, 3),
        (4, 0, False, False, 4),
        (1, 0, True, True, 1),
        (1, 2, None, True, 1),
    ],
)
def test_evaluation_overlaps_where_a_cpu_is_to_spare(small_data, cpus, learners, given, overlaps, threads):
    made = config(small_data, evaluation_overlap=given).resources(num_cpus_for_main_process=cpus)
    made.learners(num_learners=learners)
    assert (made.overlaps_evaluation, made.training_threads) == (overlaps, threads)


def test_a_learning_rate_falls_over_the_budget_unless_told_otherwise(small_data):
    made = config(small_data, lr_decay="cosine").update_from_dict({"trial": {"updates": 700}})
    assert made.settings.objective_settings().lr_decay_updates == 700
    assert made.training(lr_decay_updates=50).settings.objective_settings().lr_decay_updates == 50


def test_an_unknown_method_lists_those_there_are(small_data):
    made = OfflineConfig().update_from_dict({"trial": {"algorithm": "sain"}})
    made.environment(CHEETAH).offline_data(input_=[f"{small_data}/cheetah-run-3/medium-expert-v1"])
    with pytest.raises(
        UserError, match=r"no algorithm 'sain'. Did you mean saint.*spin, .*saint-film-matched, factored"
    ):
        made.validate()


def test_a_dataset_of_another_task_is_refused_with_both_names(small_data):
    with pytest.raises(UserError, match=r"is a dataset of cheetah-run-3, the environment is finger-spin-3"):
        config(small_data, FINGER).validate()


def test_a_dataset_that_is_not_there_says_the_command(small_data):
    made = FactoredConfig().environment(CHEETAH).offline_data(input_=[f"{small_data}/cheetah-run-3/expert-v1"])
    with pytest.raises(UserError, match="spin-rl data make cheetah-run expert"):
        made.validate()


@pytest.mark.parametrize("path", ["cheetah-run-3", "/data/cheetah-run-3/medium-expert", "a/b/c"])
def test_what_is_no_datasets_folder_is_refused(path):
    with pytest.raises(UserError, match=f"'{path}' is not the folder of a dataset.*ROOT/TASK-BINS/LEVEL-vN"):
        FactoredConfig().environment(CHEETAH).offline_data(input_=[path]).validate()


def test_an_unknown_environment_lists_those_there_are(small_data):
    with pytest.raises(UserError, match="cheetah-run-3"):
        config(small_data, "spin_rl/cheetah-rnu-3-v0").validate()


def test_spin_without_a_model_says_the_command(small_data):
    made = SPINConfig().environment(CHEETAH).offline_data(input_=[f"{small_data}/cheetah-run-3/medium-expert-v1"])
    with pytest.raises(UserError, match=r"spin-rl pretrain cheetah-run medium-expert --preset tiny.*asm="):
        made.training(preset="tiny").validate()


@pytest.mark.parametrize("method", ALGORITHMS)
def test_settings_survive_as_plain_values(small_data, method):
    made = ALGORITHMS[method].get_default_config().environment(CHEETAH).debugging(seed=9)
    made.offline_data(input_=[f"{small_data}/cheetah-run-3/medium-expert-v1"])
    made.training(preset="tiny", lr=0.01, beta=2.0, evaluation_episodes=3, evaluation_sampled=False, asm="somewhere")
    again = OfflineConfig().update_from_dict(made.plain())
    assert again.plain() == made.plain()
    assert (again.method_name, again.evaluation_episodes, again.seed) == (method, 3, 9)


def test_a_trials_dictionary_sets_what_is_a_setting_and_keeps_the_rest(small_data):
    trial = {
        "algorithm": "saint",
        "environment": CHEETAH,
        "seed": 3,
        "beta": 1.0,
        "evaluation_episodes": 2,
        "label": "x",
    }
    made = OfflineConfig().update_from_dict({"trial": trial, "lr": 0.5})
    assert (made.method_name, made.env, made.seed, made.beta, made.lr) == ("saint", CHEETAH, 3, 1.0, 0.5)
    assert made.evaluation_episodes == 2
    assert made.trial == trial
