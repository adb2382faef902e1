"""Trained policies as MLflow models: served without this package installed, the best one aliased as champion.

`mlflow.pyfunc.log_model` needs an active run, and activating a finished run sets its status to RUNNING and its end to
now. `mlflow.models.Model.log`, on which it is built, accepts a run's id and leaves the run's status alone. Only the
logged model is created here, as it would be put into the default experiment.
"""

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec
from safetensors import safe_open
from safetensors.torch import save_file

import spin_rl
from spin_rl.platform.reports.groups import evaluations
from spin_rl.platform.reports.report import Report

CHAMPION = "champion"
_SCRIPT = Path(spin_rl.__file__).with_name("served_policy.py")
_LONGEST_PARAM = 250  # characters that MLflow takes in a model's parameter
REQUIREMENTS = (
    "dm_control",
    "filelock",
    "fsspec",
    "gymnasium",
    "mujoco",
    "numpy",
    "psutil",
    "pyarrow",
    "safetensors",
    "scipy",
    "torch",
)
"""What loading a policy imports; the package itself is copied into the model."""


def promote(client: Any, run_id: str, checkpoint: Path, name: str, *, greedy: bool) -> int:
    """Log the policy in a checkpoint's folder as a model of its run and make it the champion under ``name``.

    Args:
        client: MLflow's client.
        run_id: the trial's run; its state and times stay as they are.
        checkpoint: folder with ``agent.json``, ``learner.safetensors`` and ``progress.json``.
        name: the registered model, created where there is none yet.
        greedy: whether a request that does not say gets the best action; otherwise a sampled one.

    Returns:
        The version of the registered model.
    """
    run = client.get_run(run_id)
    updates = int(json.loads((checkpoint / "progress.json").read_text())["updates"])
    model = client.create_logged_model(
        run.info.experiment_id,
        name=f"policy-{updates}",
        source_run_id=run_id,
        params={key: value for key, value in run.data.params.items() if len(value) < _LONGEST_PARAM},
        model_type="policy",
    )
    with TemporaryDirectory() as folder, _as_default_store(client.tracking_uri):
        logged = Model.log(
            artifact_path=None,
            flavor=mlflow.pyfunc,
            name=model.name,
            model_id=model.model_id,
            run_id=run_id,
            step=updates,
            registered_model_name=name,
            await_registration_for=None,
            **_contents(checkpoint, Path(folder), greedy=greedy),
        )
    version = int(logged.registered_model_version)
    client.set_registered_model_alias(name, CHAMPION, str(version))
    return version


def champion_run(client: Any, name: str) -> str | None:
    """The run that the champion under ``name`` comes from; None where there is no champion yet."""
    try:
        return str(client.get_model_version_by_alias(name, CHAMPION).run_id)
    except MlflowException:
        return None


@contextmanager
def _as_default_store(tracking_uri: str) -> Iterator[None]:
    """Make a store MLflow's default for a while: logging and registering use that, whatever client is at hand."""
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    path = list(sys.path)
    mlflow.set_tracking_uri(tracking_uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)
        sys.path[:] = path  # MLflow tries the example on the model, whose temporary copy of the package is gone now


def champions(report: Report) -> dict[str, str]:
    """The trial to promote for each task and level: the best seed of the method with the highest mean return.

    Only finished trials count.
    """
    best: dict[str, tuple[float, str]] = {}
    last = evaluations(report.results).groupby("trial_id")["return"].last()
    trials = report.results.trials
    for group in report.groups:
        for method in group.methods:
            finals = last.reindex(list(method.trials)).dropna()
            if method.state != "finished" or finals.empty:
                continue
            trial = trials.loc[finals.idxmax()]
            name = f"{trial['task']}-{int(trial['bins'])}-{trial['level']}"
            best[name] = max(best.get(name, (-np.inf, "")), (float(finals.mean()), str(finals.idxmax())))
    return {name: trial_id for name, (_, trial_id) in best.items()}


def _contents(checkpoint: Path, folder: Path, *, greedy: bool) -> dict[str, Any]:
    """What the model consists of: the networks, a copy of the package, pinned requirements, signature and example."""
    policy = folder / "policy"
    policy.mkdir()
    spec = json.loads((checkpoint / "agent.json").read_text())
    shutil.copy(checkpoint / "agent.json", policy)
    _copy_networks(checkpoint / "learner.safetensors", policy / "learner.safetensors")
    size, subactions = int(spec["observation_size"]), len(spec["nvec"])
    return {
        "python_model": str(_SCRIPT),
        "artifacts": {"policy": str(policy)},
        "code_paths": [str(_copy_package(folder / "code"))],
        "pip_requirements": [f"{name}=={version(name).split('+')[0]}" for name in ("mlflow", *REQUIREMENTS)],
        "signature": ModelSignature(
            Schema([TensorSpec(np.dtype(np.float32), (-1, size))]),
            Schema([TensorSpec(np.dtype(np.int64), (-1, subactions))]),
            ParamSchema([ParamSpec("greedy", "boolean", greedy), ParamSpec("seed", "long", -1)]),
        ),
        "input_example": np.zeros((1, size), np.float32),
    }


def _copy_networks(source: Path, target: Path) -> None:
    """The tensors of the networks alone, without optimisers and random states."""
    with safe_open(source, framework="pt") as tensors:
        save_file({name: tensors.get_tensor(name) for name in tensors.keys() if name.startswith("networks.")}, target)  # noqa: SIM118


def _copy_package(folder: Path) -> Path:
    """The package's modules, wherever this installation keeps them: links are followed, data files left out."""
    return Path(shutil.copytree(Path(spin_rl.__file__).parent, folder / "spin_rl", ignore=_all_but_modules))


def _all_but_modules(folder: str, names: list[str]) -> list[str]:
    return [
        name for name in names if name == "__pycache__" or not (name.endswith(".py") or Path(folder, name).is_dir())
    ]
