"""``spin-rl sweep``: what it refuses before anything starts, what it shows, and what it does not do twice."""

import json
import sys
from pathlib import Path

import pytest
import ray

from spin_rl import cli
from spin_rl.commands.sweep import parse_values
from spin_rl.errors import UserError
from spin_rl.platform.common.json_files import write_json
from spin_rl.platform.results.files import MetricsFile
from spin_rl.sweeps.planning.plan import read_plan
from spin_rl.sweeps.running.resources import TrialResources

OWN = """
from spin_rl.sweeps.planning.sweep import Sweep
from spin_rl.platform.reports.sections import Section
SWEEP = Sweep(
    name="own",
    description="Is it mine?",
    space={
        "task": ("cheetah-run",), "bins": (3,), "level": ("medium-expert",), "algorithm": ("factored", "spin"),
        "objective": ("iql",), "asm_steps": (0, 5), "seed": (0, 1), "preset": ("tiny",), "updates": (4,),
        "evaluations": (2,), "episodes": (1,),
    },
    analysis=lambda results: [Section("Mine", "It is.")],
)
"""


@pytest.fixture
def command(monkeypatch, capfd, small_data, tmp_path):
    """Runs ``spin-rl sweep``; returns its exit code, what it printed and what it complained of."""
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[object, str, str]:
        place = ["--root", str(small_data), "--storage", str(tmp_path / "results")]
        monkeypatch.setattr(sys, "argv", ["spin-rl", "sweep", *arguments, *place])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, *capfd.readouterr()

    return run


@pytest.fixture
def no_ray(monkeypatch):
    def refuse() -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr("spin_rl.api.running.ray_session", refuse)


def finish(folder: Path) -> None:
    """Leave the files of a sweep of which all is done."""
    for trial_id, trial in read_plan(folder).by_id().items():
        place = folder / "trials" / trial_id
        write_json(place / "trial.json", {"trial_id": trial_id, "params": dict(trial), "state": "finished"})
        for updates in (0, 2, 4):
            MetricsFile(place / "metrics.jsonl").append(
                {"updates": updates, "timestamp": 1.0, "eval/return_mean": 1.0 * updates, "time/train_seconds": updates}
            )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("pretraining-lenght", "Did you mean pretraining-length?"),
        ("nothing.py", "There is no file nothing.py"),
        ("own.py --set expectil=1", "Did you mean expectile?"),
        ("own.py --set seed", "'seed' sets nothing; write NAME=V1,V2"),
        ("own.py --set lr=", "The space is empty: lr has no value"),
        ("own.py --seeds 0,x", "seed is a whole number from 0 on, not 'x'"),
        ("own.py --algorithms spim", "Did you mean spin?"),
        ("own.py --tasks cheetah-rnu", "Did you mean cheetah-run?"),
        ("own.py --levels expert", "spin-rl data make cheetah-run expert"),
        ("own.py --updates 3 --evaluations 4", "3 updates is smaller than one evaluation's distance"),
        ("own.py --resume", "none at all"),
        ("own.py --resume --seeds 1", "leave out seed, or --resume"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_starts(command, no_ray, tmp_path, arguments, said):
    code, _, error = command(*arguments.split())
    assert code == 2
    (line,) = [line for line in error.splitlines() if line.startswith("spin-rl: ")]
    assert said in line
    assert not list((tmp_path / "results").glob("*/trials"))


def test_a_dry_run_shows_the_plan_and_makes_nothing(command, no_ray, tmp_path):
    code, printed, _ = command("own.py", "--dry-run", "--set", "lr=1e-3,1e-4", "--name", "mine")
    assert code == 0
    assert "12 trials, 12 of them to do (trials of a kind that was never timed here" in printed
    assert "0.001, 0.0001" in printed
    assert not (tmp_path / "results" / "mine").exists()


def test_a_sweep_of_which_all_is_done_starts_no_ray_and_shows_its_answer(command, monkeypatch, tmp_path):
    def stop() -> None:
        raise UserError("so far")

    monkeypatch.setattr("spin_rl.api.running.ray_session", stop)
    assert command("own.py")[0] == 2
    folder = tmp_path / "results" / "own"
    finish(folder)
    monkeypatch.setattr("spin_rl.api.running.ray_session", None)
    for arguments in (["own.py"], ["own.py", "--resume"]):
        code, printed, _ = command(*arguments)
        assert code == 0
        assert "6 trials, 0 of them to do" in printed
        assert "It is." in printed
    assert "<h2>Mine</h2>" in (folder / "report/report.html").read_text()
    # the name alone runs no file that the results name
    assert command("own", "--resume")[0] == 0


def test_a_name_that_another_sweep_has_is_refused(command, monkeypatch, tmp_path):
    def stop() -> None:
        raise UserError("so far")

    monkeypatch.setattr("spin_rl.api.running.ray_session", stop)
    command("own.py", "--name", "mine")
    before = (tmp_path / "results/mine/plan.json").read_bytes()
    code, _, error = command("own.py", "--name", "mine", "--seeds", "2")
    assert code == 2
    assert "holds the sweep 'mine' with other settings" in error
    assert (tmp_path / "results/mine/plan.json").read_bytes() == before
    command("own.py", "--name", "other", "--seeds", "2")
    assert "There are 2 sweeps own.py" in command("own.py", "--resume")[2]


def test_values_are_json_or_words():
    assert parse_values("a", "1,2.5,true") == (1, 2.5, True)
    assert parse_values("a", "spin, saint") == ("spin", "saint")
    assert parse_values("a", "1,x") == (1, "x")
    assert parse_values("a", '{"asm": {"width": 8}},{}') == ({"asm": {"width": 8}}, {})


@pytest.mark.parametrize(
    ("cpus", "gpus", "said"),
    [
        (1, 2, "asks for 2 GPU, the largest node of the cluster has 1"),
        (9, 0, "asks for 9 CPU, the largest node of the cluster has 8"),
        (8, 1, "no node of the cluster has both"),
        (2, 0.5, None),
    ],
)
def test_a_trial_that_fits_on_no_node_is_refused(monkeypatch, cpus, gpus, said):
    nodes = [{"CPU": 8.0}, {"CPU": 2.0, "GPU": 1.0}, {"CPU": 64.0, "GPU": 8.0}]
    alive = [True, True, False]
    monkeypatch.setattr(
        ray, "nodes", lambda: [{"Alive": lives, "Resources": node} for lives, node in zip(alive, nodes, strict=True)]
    )
    if said is None:
        TrialResources(cpus, gpus).check()
    else:
        with pytest.raises(UserError, match=said):
            TrialResources(cpus, gpus).check()


def test_a_plan_stands_in_plain_json(command, monkeypatch, tmp_path):
    def stop() -> None:
        raise UserError("so far")

    monkeypatch.setattr("spin_rl.api.running.ray_session", stop)
    command("own.py")
    plan = json.loads((tmp_path / "results/own/plan.json").read_text())
    assert plan["sweep"] == str(tmp_path / "own.py")
    assert plan["space"]["asm_steps"] == [0, 5]
    assert len(plan["trials"]) == 6
