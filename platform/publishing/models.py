"""Trained policies as MLflow models: served without this package installed, named champion in the registry."""

import importlib.util
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import spin_rl
from spin_rl.platform.reports.groups import evaluations
from spin_rl.platform.reports.report import Report

CHAMPION = "champion"
_SCRIPT = Path(spin_rl.__file__).with_name("served_policy.py")
_PARTS = ("algorithms", "envs", "platform")
# what loading a policy imports; the package itself travels with the model
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


def log_policy(client: Any, run_id: str, checkpoint: Path, *, greedy: bool) -> str:
    """Log the policy in a checkpoint's folder as a model of a run; returns the model's id.

    Args:
        client: MLflow's client.
        run_id: the trial's run.
        checkpoint: folder with ``agent.json`` and ``learner.safetensors``.
        greedy: whether a request that does not say gets the best action; otherwise a sampled one.
    """
    from mlflow.entities import LoggedModelOutput
    from mlflow.entities.logged_model_status import LoggedModelStatus

    run = client.get_run(run_id)
    step = int(json.loads((checkpoint / "progress.json").read_text())["updates"])
    with TemporaryDirectory() as folder:
        saved = Path(folder) / "model"
        _save_model(saved, checkpoint, Path(folder), greedy=greedy)
        model = client.create_logged_model(
            run.info.experiment_id,
            name=f"policy-{step}",
            source_run_id=run_id,
            params={name: value for name, value in run.data.params.items() if len(value) < 250},
            model_type="policy",
        )
        client.log_model_artifacts(model.model_id, str(saved))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.log_outputs(run_id, models=[LoggedModelOutput(model.model_id, step=step)])
    return str(model.model_id)


def promote(client: Any, model_id: str, run_id: str, name: str) -> int:
    """Register a logged model under ``name`` as its champion; returns its version there."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    with _as_default_store(client.tracking_uri):
        made = client.create_model_version(name, source=f"models:/{model_id}", run_id=run_id, model_id=model_id)
    client.set_registered_model_alias(name, CHAMPION, made.version)
    return int(made.version)


def champion_run(client: Any, name: str) -> str | None:
    """The run whose policy is the champion under ``name``; None where there is none yet."""
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_model_version_by_alias(name, CHAMPION).run_id)
    except MlflowException:
        return None


@contextmanager
def _as_default_store(tracking_uri: str) -> Iterator[None]:
    """MLflow looks a model up in its default store, whatever store its client was made for."""
    import mlflow

    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(tracking_uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


def champions(report: Report) -> dict[str, str]:
    """The trial to promote for each task and level: of the method with the highest mean return its best seed.

    Trials that are not finished do not count.
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


def _save_model(target: Path, checkpoint: Path, folder: Path, *, greedy: bool) -> None:
    """Write the model with what it needs: the networks, a copy of the package, pinned requirements, an example."""
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import save_model
    from mlflow.types import ParamSchema, ParamSpec, Schema, TensorSpec

    policy = folder / "policy"
    policy.mkdir()
    spec = json.loads((checkpoint / "agent.json").read_text())
    shutil.copy(checkpoint / "agent.json", policy)
    _copy_networks(checkpoint / "learner.safetensors", policy / "learner.safetensors")
    size, subactions = int(spec["observation_size"]), len(spec["nvec"])
    save_model(
        target,
        python_model=str(_SCRIPT),
        artifacts={"policy": str(policy)},
        code_paths=[str(_copy_package(folder / "code"))],
        pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in ("mlflow", *REQUIREMENTS)],
        signature=ModelSignature(
            Schema([TensorSpec(np.dtype(np.float32), (-1, size))]),
            Schema([TensorSpec(np.dtype(np.int64), (-1, subactions))]),
            ParamSchema([ParamSpec("greedy", "boolean", greedy), ParamSpec("seed", "long", -1)]),
        ),
        input_example=np.zeros((1, size), np.float32),
    )


def _copy_networks(source: Path, target: Path) -> None:
    """The tensors of the networks alone; optimisers and random states stay behind."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(source, framework="pt") as tensors:
        save_file({name: tensors.get_tensor(name) for name in tensors.keys() if name.startswith("networks.")}, target)  # noqa: SIM118


def _copy_package(folder: Path) -> Path:
    """The package's modules under their one name, wherever this installation keeps them."""
    package = folder / "spin_rl"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(f'__version__ = "{version("spin-rl")}"\n')
    for part in _PARTS:
        spec = importlib.util.find_spec(f"spin_rl.{part}")
        assert spec is not None
        locations = spec.submodule_search_locations
        assert locations is not None
        source = Path(next(iter(locations)))
        for file in source.rglob("*.py"):
            copy = package / part / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    return package
