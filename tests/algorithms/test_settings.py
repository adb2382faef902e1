"""Settings are named once: what commands, trials and RLlib's configurations take from them."""

import inspect
from dataclasses import fields

import pytest
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from spin_rl.algorithms.methods import METHODS
from spin_rl.algorithms.objectives import OBJECTIVES, ObjectiveSettings
from spin_rl.algorithms.rllib import ALGORITHMS, OfflineConfig
from spin_rl.algorithms.settings import (
    DESCRIPTIONS,
    FREE_SETTINGS,
    HELP,
    NETWORK_SETTINGS,
    OBJECTIVE_SETTINGS,
    SETTINGS,
    TRIAL_SETTINGS,
    TrainingSettings,
    check_trial,
    parse_settings,
)
from spin_rl.errors import UserError


def test_what_an_objective_has_beyond_the_shared_settings_is_a_setting():
    shared = {field.name for field in fields(ObjectiveSettings)}
    for objective in OBJECTIVES.values():
        for field in fields(objective.settings_class):
            assert (field.name in OBJECTIVE_SETTINGS) == (field.name not in shared), field.name
    assert set(OBJECTIVE_SETTINGS) < set(FREE_SETTINGS)
    assert parse_settings(["expectile=0.7"]) == {"expectile": 0.7}
    said = "of iql (default 100.0), awac (default 100.0): largest advantage weight."
    assert OBJECTIVE_SETTINGS["weight_cap"].help == said


def test_every_setting_is_explained_and_no_name_has_two_meanings():
    for name in SETTINGS:
        assert len(HELP[name]) > 10, name
    assert not set(SETTINGS) & set(NETWORK_SETTINGS)
    assert not (set(TRIAL_SETTINGS) | set(NETWORK_SETTINGS)) & set(DESCRIPTIONS)


@pytest.mark.parametrize("method", ALGORITHMS)
def test_a_configuration_has_the_defaults_of_the_settings(method):
    made = ALGORITHMS[method].get_default_config()
    assert made.settings == TrainingSettings(method_name=method, objective=METHODS[method].objectives[0])
    assert made.algo_class is ALGORITHMS[method]


def test_a_notebook_shows_the_keywords_of_training_and_their_help():
    signature = inspect.signature(OfflineConfig.training)
    theirs = inspect.signature(AlgorithmConfig.training).parameters
    ours = [name for name in signature.parameters if name not in theirs]
    assert {"objective", "expectile", "seeds_per_trial", "evaluation_overlap"} < set(ours)
    assert not {"method_name", "num_learners"} & set(ours)
    assert signature.parameters["beta"].annotation == float | None
    text = inspect.getdoc(OfflineConfig.training)
    for name in ours:
        assert f"\n    {name}: " in text, name
    assert "first of its method: iql, awac, bcq, " in " ".join(text.split())
    assert OfflineConfig().training(beta=2.0, lr=0.1).settings.objective_settings().beta == 2.0
    with pytest.raises(TypeError, match="expectil"):
        OfflineConfig().training(expectil=0.7)


@pytest.mark.parametrize(
    ("key", "near"), [("expectil", "expectile"), ("policy_widht", "policy_width"), ("asm_step", "asm_steps")]
)
def test_a_trial_with_an_unknown_key_is_refused_with_the_nearest_name(key, near):
    trial = {"algorithm": "factored", "label": "x", "updates": 10, key: 1}
    for refuse in (check_trial, lambda trial: OfflineConfig().update_from_dict({"trial": trial})):
        with pytest.raises(UserError, match=f"no setting of a trial '{key}'. Did you mean {near}?"):
            refuse(trial)
    del trial[key]
    check_trial(trial)


def test_a_configuration_keeps_its_trial_when_other_settings_change():
    made = OfflineConfig().update_from_dict({"trial": {"algorithm": "saint", "policy_width": 8, "updates": 10}})
    made.update_from_dict({"lr": 0.1})
    assert (made.trial["updates"], made.network, made.settings.method_name) == (10, {"policy_width": 8}, "saint")
