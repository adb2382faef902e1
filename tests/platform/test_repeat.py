"""The command that repeats a trial: understood by ``spin-rl train``, and complete."""

import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import pytest
import torch
import typer

from spin_rl import cli
from spin_rl.algorithms.pretraining.checkpoints import ensure_pretrained
from spin_rl.algorithms.rllib.config import OfflineConfig
from spin_rl.algorithms.settings import parse_settings
from spin_rl.platform.asm_store.store import ASMStore, asm_root
from spin_rl.platform.common.ray_session import ray_session
from spin_rl.platform.datasets import open_dataset
from spin_rl.platform.results.files import read_sweep
from spin_rl.platform.tracking.repeat import repeat_command
from spin_rl.sweeps.planning.plan import SweepPlan, read_plan
from spin_rl.sweeps.registry import SWEEPS, get_sweep

TRIAL: dict[str, Any] = {
    "algorithm": "spin",
    "task": "cheetah-run",
    "bins": 3,
    "level": "medium-expert",
    "dataset": "/da ta/cheetah-run-3/medium-expert-v1",
    "dataset_digest": "d",
    "environment": "spin_rl/cheetah-run-3-v0",
    "objective": "iql",
    "seed": 1,
    "preset": "small",
    "updates": 4000,
    "evaluate_every": 500,
    "updates_per_iteration": 500,
    "evaluation_episodes": 5,
    "asm": "/results/asm/x/step-000003000",
    "asm_steps": 3000,
    "asm_epochs": 15.4,
    "asm_masking": "variable",
    "expectile": 0.7,
    "network": {"policy_dropout": 0.1},
}


def understood(command: str | None) -> dict[str, Any]:
    """The parameters that ``spin-rl train`` takes from a command line."""
    assert command is not None
    program, *words = shlex.split(command)
    assert program == "spin-rl"
    root: Any = typer.main.get_command(cli.app)
    name, train, rest = root.resolve_command(click.Context(root), words)
    params: dict[str, Any] = train.make_context(name, rest).params
    return params


def settings_of(trial: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that a trial's training depends on."""
    config = OfflineConfig()
    config.update_from_dict({"trial": dict(trial)})
    return {name: value for name, value in config.plain().items() if name != "trial"}


def tiny_plan(name: str, data: Path, storage: Path) -> SweepPlan:
    sweep = get_sweep(name)
    # more updates between two evaluations than the default, so that an option that gets lost shows
    return sweep.plan(sweep.resolve({"updates": (6,)}, tiny=True), str(data), asm_root(storage))


def one_of_each(plan: SweepPlan) -> list[Mapping[str, Any]]:
    """A trial of every method and set of parameters that the plan has; the last of them, whose sizes are unusual."""
    return list({(trial["algorithm"], trial["objective"], *trial): trial for trial in plan.trials}.values())


def test_the_command_carries_every_setting() -> None:
    params = understood(repeat_command(TRIAL))
    assert {name: params[name] for name in ("algorithm", "task", "level", "version", "root", "asm")} == {
        "algorithm": "spin",
        "task": "cheetah-run",
        "level": "medium-expert",
        "version": 1,
        "root": "/da ta",
        "asm": "/results/asm/x/step-000003000",
    }
    assert ([*params["seed"]], params["updates"], params["episodes"]) == ([1], 4000, 5)
    assert parse_settings(params["settings"]) == {"expectile": 0.7, "network": {"policy_dropout": 0.1}}


def test_the_command_starts_from_the_clone() -> None:
    clone = {"clone": "/results/asm/x/step-000000020", "clone_steps": 20, "clone_epochs": 0.1}
    params = understood(repeat_command({k: v for k, v in TRIAL.items() if not k.startswith("asm")} | clone))
    assert (params["clone"], params["asm"]) == (clone["clone"], None)
    assert parse_settings(params["settings"]) == {"expectile": 0.7, "network": {"policy_dropout": 0.1}}


def test_the_command_finds_data_by_address() -> None:
    command = repeat_command(TRIAL | {"dataset": "s3://bucket/data/cheetah-run-3/medium-expert-v12"})
    assert "--root s3://bucket/data --version 12 " in str(command)


def test_a_trial_without_data_of_its_own_has_no_such_command() -> None:
    assert repeat_command({"algorithm": "spin", "task": "cheetah-run"}) is None


@pytest.mark.parametrize("name", list(SWEEPS))
def test_the_command_of_every_shipped_sweeps_trials_says_all_of_their_settings(
    name: str, small_data: Path, tmp_path: Path
) -> None:
    for trial in one_of_each(tiny_plan(name, small_data, tmp_path)):
        params = understood(repeat_command(trial))
        said = {
            **{name: trial[name] for name in ("dataset", "environment", "updates_per_iteration")},
            **{name: params[name] for name in ("algorithm", "objective", "preset", "evaluate_every", "asm")},
            **{"seed": params["seed"][0], "evaluation_episodes": params["episodes"], "updates": params["updates"]},
            **parse_settings(params["settings"] or ()),
        }
        assert settings_of(said) == settings_of(trial)
        assert said["updates"] == trial["updates"] == 6
        place = f"{params['root']}/{params['task']}-{params['bins']}/{params['level']}-v{params['version']}"
        assert place == trial["dataset"]


@pytest.fixture(scope="module")
def ray_for_two() -> Iterator[None]:
    with ray_session(2):
        yield


@pytest.mark.integration
@pytest.mark.usefixtures("ray_for_two")
@pytest.mark.parametrize("name", ["head-size", "stop-time"])
def test_the_command_repeats_a_trial_with_its_model_and_its_settings(
    name: str, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tiny_plan(name, small_data, tmp_path)
    trial = [trial for trial in plan.trials if trial["algorithm"] == "spin"][-1]
    dataset = open_dataset(trial["task"], trial["level"], root=str(small_data))
    store = ASMStore(asm_root(tmp_path))
    for needed in plan.pretrainings:
        ensure_pretrained(store, dataset, needed.config, needed.steps, device=torch.device("cpu"))
    command = shlex.split(str(repeat_command(trial)))
    monkeypatch.setattr(sys, "argv", [*command, "--storage", str(tmp_path), "--name", "again"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code, capsys.readouterr().err
    repeated = read_plan(tmp_path / "again")
    assert repeated is not None
    (same,) = repeated.trials
    assert settings_of(same) == settings_of(trial)
    assert (same["asm"], same["asm_steps"], same["updates"]) == (trial["asm"], trial["asm_steps"], trial["updates"])
    assert repeated.pretrainings == ()
    (row,) = read_sweep(tmp_path / "again").trials.to_dict("records")
    assert row["state"] == "finished"
