"""A policy that was logged acts where this package is not installed, and is found by its alias."""

import ast
import json
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import save_file

from spin_rl.algorithms.evaluation.batch_policy import ActingPolicy
from spin_rl.algorithms.objectives.iql import IQLSettings
from spin_rl.algorithms.presets import get_preset
from spin_rl.algorithms.training.agent import AgentSpec, build_objective
from spin_rl.algorithms.training.checkpoints import save_agent_spec
from spin_rl.platform.publishing.models import REQUIREMENTS, champion_run, champions, promote
from spin_rl.platform.reports.report import make_report
from spin_rl.platform.results.files import start_sweep
from tests.platform.sweep_fixture import params, write_trial

NVEC = (3, 2, 4)
NAME = "cheetah-run-3-medium-expert"

ELSEWHERE = """
import json, sys
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
import mlflow, numpy
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/cheetah-run-3-medium-expert@champion")
import spin_rl
observations = numpy.array(json.loads(sys.argv[2]), numpy.float32)
ask = lambda **params: model.predict(observations, params=params).tolist()
files = [module.__file__ for name, module in sys.modules.items() if name.startswith("spin_rl.")]
answers = ask(greedy=True), ask(seed=3), ask(seed=3), ask(seed=4)
print(json.dumps([spin_rl.__file__, [file for file in files if file], *answers]))
"""


def imported_by(files: list[str]) -> set[str]:
    """The distributions whose modules these files import where they are loaded."""
    names: set[str] = set()
    for file in files:
        for node in ast.parse(Path(file).read_text()).body:
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
    owners = packages_distributions()
    return {owners[name][0] for name in names if name not in sys.stdlib_module_names and name != "spin_rl"}


@pytest.mark.integration
def test_a_logged_policy_acts_without_the_package(tmp_path: Path) -> None:
    spec = AgentSpec("factored", 5, NVEC, get_preset("tiny"), IQLSettings())
    objective = build_objective(spec)
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    save_agent_spec(spec, checkpoint)
    tensors = {f"networks.{name}": value for name, value in objective.state_dict().items()}
    save_file(tensors | {"optimizers.x": torch.zeros(1000)}, checkpoint / "learner.safetensors")
    (checkpoint / "progress.json").write_text(json.dumps({"updates": 700}))

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    client = MlflowClient(uri)
    experiment = client.create_experiment("tests", (tmp_path / "artifacts").as_uri())
    run = client.create_run(experiment).info.run_id
    client.log_metric(run, "eval/return_mean", 3.0, step=700)
    client.set_terminated(run, "KILLED", 5000)
    assert champion_run(client, NAME) is None
    assert promote(client, run, checkpoint, NAME, greedy=False) == 1
    assert champion_run(client, NAME) == run
    ended = client.get_run(run)
    (output,) = ended.outputs.model_outputs
    assert (ended.info.status, ended.info.end_time, output.step) == ("KILLED", 5000, 700)
    model = client.get_logged_model(output.model_id)
    assert (model.experiment_id, model.source_run_id, model.metrics[0].value) == (experiment, run, 3.0)
    assert mlflow.active_run() is None
    assert not mlflow.is_tracking_uri_set()

    observations = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    command = [sys.executable, "-c", ELSEWHERE, uri, json.dumps(observations.tolist())]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    package, modules, greedy, one, same, other = json.loads(done.stdout.splitlines()[-1])
    assert str(Path(__file__).parents[2]) not in package
    assert imported_by(modules) <= {*REQUIREMENTS, "mlflow"}  # a fresh environment has nothing else
    best = ActingPolicy(objective, torch.device("cpu"), sample=False)
    assert greedy == best.act(observations, np.empty((40, 0))).tolist()
    assert one == same != other
    assert np.max(one, axis=0).tolist() <= [choices - 1 for choices in NVEC]


def test_the_best_seed_of_the_best_method_becomes_champion(tmp_path: Path) -> None:
    start_sweep(tmp_path, name="s")
    for algorithm in ("factored", "spin"):
        for seed in (0, 2, 1):
            write_trial(tmp_path, f"{algorithm}-{seed}", params(algorithm, seed))
    write_trial(tmp_path, "lucky", params("spin", 99), state="failed")
    assert champions(make_report(tmp_path)) == {"cheetah-run-3-medium-expert": "spin-2"}
