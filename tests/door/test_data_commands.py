"""``spin-rl data`` as a user types it, and the curve of a behaviour training in a real MLflow store."""

import json
from dataclasses import fields
from io import StringIO

import mlflow
import pytest
from rich.console import Console
from typer.testing import CliRunner

from spin_rl.cli import app
from spin_rl.commands.display import wide_table
from spin_rl.envs import get_task
from spin_rl.envs.behaviour.checkpoint import sole_training
from spin_rl.envs.behaviour.settings import NEW_TRAINING, SETTABLE, BehaviourSettings, parse_settings
from spin_rl.envs.behaviour.training import Evaluation
from spin_rl.errors import UserError
from spin_rl.platform.behaviour.curve import BehaviourCurve


@pytest.fixture
def spin_rl(tmp_path, monkeypatch):
    """Runs ``spin-rl data`` with these words; the output, spaces made one."""
    monkeypatch.setenv("SPIN_RL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SPIN_RL_STORAGE", str(tmp_path / "results"))
    monkeypatch.delenv("SPIN_RL_CACHE", raising=False)

    def run(words: str) -> str:
        result = CliRunner().invoke(app, ["data", *words.split()], env={"COLUMNS": "200"})
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return " ".join(result.output.split())

    return run


def test_a_dataset_is_made_found_seen_verified_and_sent_around(spin_rl, tmp_path, monkeypatch):
    making = "make maze-4 medium-expert --bins 2 --size 900 --workers 0"
    assert f"Made {tmp_path}/data/maze-4-2/medium-expert-v1" in spin_rl(making)
    assert f"Found {tmp_path}/data/maze-4-2/medium-expert-v1" in spin_rl(making)
    listed = spin_rl("list")
    assert "maze-4-2/medium-expert-v1" in listed
    assert "cheetah-run" in listed
    seen = spin_rl("inspect maze-4 medium-expert --bins 2")
    assert "distinct joint actions" in seen
    assert "total correlation" in seen
    assert (tmp_path / "results/inspect/maze-4-2-medium-expert-v1.png").stat().st_size > 10_000
    assert "is whole" in spin_rl("verify maze-4 medium-expert --bins 2")
    assert "Wrote" in spin_rl(f"export rllib maze-4 medium-expert {tmp_path}/columns --bins 2")
    assert "maze-4-2/brought-v1" in spin_rl(f"import rllib {tmp_path}/columns maze-4 brought --bins 2")
    with pytest.raises(UserError, match="is not empty"):
        spin_rl(f"export rllib maze-4 medium-expert {tmp_path}/columns --bins 2")
    header, row = "x,y,a0,a1,a2,a3,reward,episode", "0.5,0.5,0,1,0,1,-0.05,0"
    (tmp_path / "table.csv").write_text(f"{header}\n{row}\n{row}\n")
    bring = f"import table {tmp_path}/table.csv maze-4 tabled --bins 2"
    with pytest.raises(UserError, match="observation of 1 values of float64, not 2 numbers"):
        spin_rl(f"{bring} --observation x --action a*")
    with pytest.raises(UserError, match="A table needs --action"):
        spin_rl(f"{bring} --observation x,y")
    assert "maze-4-2/tabled-v1" in spin_rl(f"{bring} --observation x,y --action a*")


def test_episodes_that_are_all_alike_are_pointed_out(spin_rl):
    said = "episodes of expert return the same"
    assert said in spin_rl("make cone-2x4 medium-expert --bins 2 --size 60 --workers 0")
    assert "episodes are the same as an earlier one, bit for bit" in spin_rl("inspect cone-2x4 medium-expert --bins 2")
    assert said not in spin_rl("make cone-2x4 medium-expert --bins 2 --size 60 --workers 0 --epsilon 0.3")
    assert said not in spin_rl("make maze-4 expert --bins 2 --size 900 --workers 0")


def test_names_are_whole_however_narrow_the_terminal_is():
    name = "quadruped-walk-50/random-medium-expert-v12"
    table = wide_table("dataset", "transitions", "return", title="data")
    table.add_row(name, "200,000", "1234.5 ± 678.9")
    console = Console(width=50, file=StringIO())
    console.print(table)
    assert name in console.file.getvalue()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("make cheeta-run random", "Did you mean cheetah-run"),
        ("make cheetah-run rando", "There is no level 'rando'. Did you mean random"),
        ("inspect cheetah-run random", "make it with: spin-rl data make cheetah-run random"),
        ("train-behaviour cheetah-run --bins 5", "number of bins for cheetah-run '5'"),
        ("train-behaviour cheetah-run --device nowhere", "There is no device nowhere here"),
        (
            "train-behaviour cheetah-run --set ahead=0 --actors 2",
            "leave out --actors, or start a training with --set ahead=20",
        ),
        ("train-behaviour cheetah-run --set envs=3", "envs=3 is not a multiple"),
        ("train-behaviour cheetah-run --set env=3", "no setting 'env'. Did you mean envs?"),
        ("train-behaviour cheetah-run --set seed=3", "no setting 'seed'"),
        ("train-behaviour cheetah-run --set envs", "'envs' sets nothing; write NAME=VALUE"),
        ("train-behaviour cheetah-run --set envs=2.5", "envs is a whole number, not '2.5'"),
        ("train-behaviour cheetah-run --set gamma=1.5", "gamma is between 0 and 1, not 1.5"),
        ("train-behaviour cheetah-run --set n_step=0", "n_step is at least 1, not 0"),
        ("train-behaviour cheetah-run --set symlog=yes", "symlog is true or false, not 'yes'"),
        ("train-behaviour cheetah-run --algorithm ppo", "--algorithm ppo is none of decqn, sac"),
        ("train-behaviour cheetah-run --algorithm sac --set entropy=1", "entropy=1 is no share between 0 and 1"),
        (
            "train-behaviour dog-trot --bins 10 --start-from nowhere",
            "nowhere is not a behaviour training",
        ),
        ("ship-behaviour cheetah-run --level best", "is medium or expert, not best"),
        ("ship-behaviour fish-swim", "run: spin-rl data train-behaviour fish-swim"),
        ("import benchmark nowhere.pkl cheetah-run medium", "There is no file or folder nowhere.pkl"),
        ("import benchmark . cheetah-run medium", "There is no file ."),
        ("import benchmark . my-task medium --nvec 3,x", "--nvec 3,x is no list of numbers"),
    ],
)
def test_a_mistake_is_one_sentence(spin_rl, words, said):
    with pytest.raises(UserError) as error:
        spin_rl(words)
    assert said in str(error.value)


@pytest.mark.integration
def test_two_trainings_do_not_share_a_folder(spin_rl, tmp_path):
    folder = tmp_path / "results/behaviour/finger-spin-3/seed-0"
    short = "train-behaviour finger-spin --steps 1 --set envs=2 --actors 0"
    with (
        sole_training(folder),
        pytest.raises(UserError, match=r"Another process is training in .*/finger-spin-3/seed-0"),
    ):
        spin_rl(short)
    assert not (folder / "config.json").exists()
    assert "Curve and snapshots are in" in spin_rl(short)
    kept = json.loads((folder / "config.json").read_text())
    assert (kept["envs"], kept["ahead"], kept["normalize"]) == (2, 20, True)


def test_help_lists_every_setting_with_its_default_and_says_what_it_is(spin_rl):
    said = spin_rl("train-behaviour --help")
    for name, field in SETTABLE.items():
        assert f"{name}={json.dumps(getattr(NEW_TRAINING, name))} {field.metadata['help']}" in said
    own = {"seed", "algorithm", "started_from", "anneal_from", "anneal_steps"}  # have options, or follow from them
    assert {field.name for field in fields(BehaviourSettings)} - SETTABLE.keys() == own


def test_settings_have_the_types_of_their_fields():
    given = parse_settings(["envs=16", "learning_rate=1e-4", "symlog=true", "bfloat16=false"])
    assert given == {"envs": 16, "learning_rate": 1e-4, "symlog": True, "bfloat16": False}
    assert isinstance(given["envs"], int)


def test_a_training_that_goes_on_keeps_one_curve_in_mlflow(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    task, folder = get_task("cheetah-run"), tmp_path / "behaviour/cheetah-run-3/seed-0"
    folder.mkdir(parents=True)
    points = [Evaluation(step, float(step), 1.0, 0.5, 0.1, 2.0, entropy=step / 40) for step in (10, 20, 30)]

    def interrupted() -> None:
        with BehaviourCurve(tmp_path, task, 0, folder, "DecQN") as curve:
            for point in points[:2]:
                curve.log(point)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("behaviour").experiment_id
    assert [run.info.status for run in client.search_runs([experiment])] == ["KILLED"]
    with BehaviourCurve(tmp_path, task, 0, folder, "DecQN") as curve:
        for point in points[1:]:
            curve.log(point)
    (run,) = client.search_runs([experiment])
    assert run.data.metrics["train/entropy"] == 0.75
    history = client.get_metric_history(run.info.run_id, "eval/return_mean")
    assert [(point.step, point.value) for point in history] == [(10, 10.0), (20, 20.0), (30, 30.0)]
    assert (run.info.status, run.data.params["task"]) == ("FINISHED", "cheetah-run")
