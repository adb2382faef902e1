"""The Python door: what a notebook calls and what a user types are the same thing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from spin_rl import api, cli
from spin_rl.api import sweeps, training
from spin_rl.commands import sweep as sweep_command
from spin_rl.commands import train as train_command
from spin_rl.errors import UserError
from spin_rl.platform.common.ray_session import ray_session
from spin_rl.sweeps.registry import get_sweep

TINY = {"preset": "tiny", "updates": 4, "evaluate_every": 2, "episodes": 1, "asm_steps": 2}
OPTIONS = "--preset tiny --updates 4 --evaluate-every 2 --episodes 1 --asm-steps 2"


def typed(words: str, root: Path | None, storage: Path) -> str:
    """What ``spin-rl`` prints for these words."""
    arguments = [*words.split(), *(["--root", str(root)] if root else []), "--storage", str(storage)]
    result = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def plans(monkeypatch):
    """The plans that would have been run, by function or by command."""
    seen = []
    for module in (training, sweeps):
        monkeypatch.setattr(module, "run_and_report", lambda plan, storage, **_: seen.append((plan, storage)))
    for module in (train_command, sweep_command):
        monkeypatch.setattr(module, "show_run", lambda run: None)
    return seen


@pytest.mark.parametrize(
    ("algorithm", "options", "arguments"),
    [
        (
            "factored",
            "--objective bcq --seed 3 --set threshold=0.2",
            {"objective": "bcq", "settings": {"threshold": 0.2}},
        ),
        ("spin", "--masking fixed --masking-rate 0.3 --seed 3", {"masking": api.Masking(0.3)}),
        (
            "spin",
            "--precision float32 --asm-objective vam --seed 3",
            {"asm_precision": "float32", "asm_objective": "vam"},
        ),
        ("decqn-cql", "--set cql_alpha=0.5 --seed 3", {"settings": {"cql_alpha": 0.5}}),
        ("saint", "--name mine --version 1 --seed 3", {"name": "mine", "version": 1}),
    ],
)
def test_train_and_its_command_make_the_same_plan(plans, small_data, tmp_path, algorithm, options, arguments):
    api.train(
        algorithm,
        "cheetah-run",
        "medium-expert",
        seeds=[3],
        root=small_data,
        storage=tmp_path,
        **TINY,
        **arguments,
    )
    typed(f"train {algorithm} cheetah-run medium-expert {OPTIONS} {options}", small_data, tmp_path)
    (called, first), (run, second) = plans
    assert called == run
    assert called.by_id() == run.by_id()
    assert first == second == tmp_path


@pytest.mark.parametrize(("algorithm", "own"), [("saint", "iql"), ("decqn-iql", "decqn-iql")])
def test_a_method_is_trained_with_its_own_objective_unless_told_otherwise(plans, small_data, tmp_path, algorithm, own):
    for objective in (None, own):
        arguments = {**TINY, "objective": objective, "root": small_data, "storage": tmp_path}
        api.train(algorithm, "cheetah-run", "medium-expert", **arguments)
    typed(f"train {algorithm} cheetah-run medium-expert {OPTIONS}", small_data, tmp_path)
    assert [plan.trials[0]["objective"] for plan, _ in plans] == [own] * 3
    assert len({plan.name for plan, _ in plans}) == 1
    assert plans[0][0].description == f"{algorithm} with {own} on cheetah-run medium-expert."
    other = "decqn-iql" if own == "iql" else "iql"
    with pytest.raises(UserError, match=f"{algorithm} is trained with {own}.*, not with {other}"):
        api.train(algorithm, "cheetah-run", "medium-expert", **TINY, objective=other, root=small_data)


def test_sweep_and_its_command_make_the_same_plan(plans, small_data, tmp_path):
    changes = {"task": ["cheetah-run"], "seed": [0, 4], "updates": [40], "preset": ["tiny"]}
    api.sweep("head-size", changes=changes, root=small_data, storage=tmp_path)
    words = "sweep head-size --tasks cheetah-run --seeds 0,4 --updates 40 --preset tiny"
    assert "head-size" in typed(words, small_data, tmp_path)
    (called, _), (run, _) = plans
    assert called == run
    assert called.sweep == "head-size"
    own = api.plan_sweep(get_sweep("head-size"), changes=changes, root=small_data, storage=tmp_path)
    assert (own.name, own.trials) == (called.name, called.trials)


def test_pretrain_finds_what_its_command_made(small_data, tmp_path):
    words = "pretrain cheetah-run medium-expert --preset tiny --steps 2 --seed 5 --asm-objective cam --temperature 0.2"
    assert "step-000000002" in typed(words, small_data, tmp_path).replace("\n", "")
    (found,) = api.pretrain(
        "cheetah-run",
        "medium-expert",
        steps=2,
        preset="tiny",
        seed=5,
        objective="cam",
        temperature=0.2,
        root=small_data,
        storage=tmp_path,
        on_step=lambda *_: pytest.fail("was pretrained again"),
    )
    assert Path(found.path).is_relative_to(tmp_path)


def test_pretrain_makes_the_clone_that_a_training_plans_and_the_store_lists_it(plans, small_data, tmp_path):
    words = "pretrain cheetah-run medium-expert --method bpr --preset tiny --steps 2 --seed 5"
    assert "step-000000002" in typed(words, small_data, tmp_path).replace("\n", "")
    for algorithm in ("bpr", "factored-bc"):
        typed(f"train {algorithm} cheetah-run medium-expert {OPTIONS} --seed 5", small_data, tmp_path)
        plan, _ = plans[-1]
        (trial,) = plan.trials
        assert Path(trial["clone"]).is_dir()
        assert (trial["clone_steps"], plan.pretrainings[0].steps) == (2, (2,))
    assert "bc factored 16" in typed("asm list", None, tmp_path)
    key = Path(trial["clone"]).parent.name
    shown = typed(f"asm show {key}", None, tmp_path)
    assert "kind" in shown
    typed(f"train factored-bc cheetah-run medium-expert {OPTIONS} --clone {key}", small_data, tmp_path)
    plan, _ = plans[-1]
    assert plan.trials[0]["clone"] == trial["clone"]
    assert not plan.pretrainings


@pytest.mark.parametrize(
    ("algorithm", "options", "message"),
    [
        ("factored-bc", {"asm": "x"}, "factored-bc starts from a pretrained clone, but asm=x is given"),
        ("spin", {"clone": "x"}, "spin starts from a pretrained action structure model, but clone=x is given"),
        ("factored", {"clone": "x"}, "factored starts from no pretrained model, but clone=x is given"),
    ],
)
def test_a_model_of_the_wrong_kind_is_refused_before_any_data_is_read(tmp_path, algorithm, options, message):
    with pytest.raises(UserError, match=message):
        api.train(algorithm, "cheetah-run", "medium-expert", root=tmp_path, storage=tmp_path, **options)


def test_a_clone_for_another_policy_is_refused(small_data, tmp_path):
    where = {"root": small_data, "storage": tmp_path}
    task = ("cheetah-run", "medium-expert")
    (clone,) = api.pretrain(*task, method="saint-bc", preset="tiny", steps=0, **where)
    with pytest.raises(UserError, match="The clone has network saint, the policy needs factored"):
        api.train("bpr", *task, clone=clone.path, **TINY, **where)
    (asm,) = api.pretrain(*task, preset="tiny", steps=0, **where)
    with pytest.raises(UserError, match="holds no clone that can be read"):
        api.train("bpr", *task, clone=asm.path, **TINY, **where)
    with pytest.raises(UserError, match="factored starts from no pretrained model"):
        api.pretrain(*task, method="factored", **where)


def test_pretrain_counts_to_the_last_step_and_leaves_the_threads_alone(small_data, tmp_path):
    torch.set_num_threads(2)
    steps = []
    checkpoints = api.pretrain(
        "cheetah-run",
        "medium-expert",
        epochs=2,
        preset="tiny",
        root=small_data,
        storage=tmp_path,
        on_step=lambda step, last, _loss: steps.append((step, last, torch.get_num_threads())),
    )
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert steps[-1] == (4, 4, 1)  # two batches of 1,024 are an epoch of 2,000
    assert [one.step for one in checkpoints] == [4]


def test_make_dataset_finds_what_its_command_made(tmp_path):
    words = "data make maze-4 expert --bins 2 --size 50 --workers 0 --seed 3 --root"
    assert CliRunner().invoke(cli.app, [*words.split(), str(tmp_path)]).exit_code == 0
    found = api.make_dataset("maze-4", "expert", 50, bins=2, seed=3, workers=0, root=tmp_path)
    assert found.found
    assert not api.make_dataset("maze-4", "expert", 50, bins=2, seed=4, workers=0, root=tmp_path).found


def test_what_a_caller_can_fix_is_one_sentence(small_data, tmp_path):
    with pytest.raises(UserError, match="Did you mean spin"):
        api.train("spim", "cheetah-run", "medium-expert", root=small_data, storage=tmp_path)
    with pytest.raises(UserError, match="Did you mean expectile"):
        api.train("spin", "cheetah-run", "medium-expert", settings={"expectil": 0.7}, root=small_data, storage=tmp_path)
    with pytest.raises(UserError, match="resumed by its name"):
        api.plan_sweep(get_sweep("head-size"), resume=True, storage=tmp_path)


def test_importing_the_package_imports_nothing_heavy():
    script = "import sys, spin_rl; print({'torch', 'ray', 'mlflow', 'typer', 'numpy'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_door_sets_what_ray_reads_before_it_is_imported():
    script = "import os; import spin_rl.{}; print(os.environ['RAY_AUTH_MODE'], os.environ['RAY_AIR_NEW_OUTPUT'])"
    for module in ("api", "commands"):
        done = subprocess.run([sys.executable, "-c", script.format(module)], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["token", "0"]


@pytest.mark.integration
def test_train_and_its_command_give_the_same_numbers(small_data, tmp_path):
    with ray_session():  # of both
        run = api.train("spin", "cheetah-run", "medium-expert", root=small_data, storage=tmp_path / "called", **TINY)
        typed(f"train spin cheetah-run medium-expert {OPTIONS}", small_data, tmp_path / "typed")
    assert run.complete
    assert not run.failures
    (folder,) = (tmp_path / "typed").glob("spin-*")  # of another name: the model that it starts from lies elsewhere
    numbers = _numbers(run.folder)
    assert [line["updates"] for line in numbers] == [0, 2, 4]
    assert numbers == _numbers(folder)
    (trial,) = run.trials
    assert (trial.task, trial.updates) == ("cheetah-run", 4)
    (one,) = api.evaluate(run, 2, seed=7)
    assert one.trial == trial
    assert one.result.episodes == 2
    said = CliRunner().invoke(cli.app, ["evaluate", str(folder), "--episodes", "2", "--seed", "7"]).output
    assert f"{one.result.return_mean:.1f}" in said
    again = api.report(run.folder, mlflow=False)
    assert again.table.equals(run.report.table)


def _numbers(folder: Path) -> list[dict[str, float]]:
    """The metrics of the one trial, without times."""
    (file,) = folder.glob("trials/*/metrics.jsonl")
    return [
        {name: value for name, value in json.loads(line).items() if not name.startswith(("time", "perf", "system"))}
        for line in file.read_text().splitlines()
    ]
