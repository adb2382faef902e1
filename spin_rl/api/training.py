"""Training: one method on one dataset, once per seed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spin_rl.algorithms.asm.masking import Masking
from spin_rl.algorithms.methods import get_method
from spin_rl.algorithms.settings import check_trial, parse_settings
from spin_rl.api.running import SweepRun, run_and_report
from spin_rl.platform.asm_store.store import ASMStore, asm_root
from spin_rl.platform.datasets.store import absolute_root, default_root
from spin_rl.platform.results.files import storage_root
from spin_rl.sweeps.planning.models import asm_config
from spin_rl.sweeps.planning.training import training_plan


def train(
    algorithm: str,
    task: str,
    level: str,
    *,
    objective: str | None = None,
    bins: int = 3,
    version: int | None = None,
    preset: str = "small",
    seeds: Sequence[int] = (0,),
    updates: int = 10_000,
    evaluate_every: int = 1000,
    episodes: int = 10,
    asm_steps: int = 5000,
    asm_objective: str = "mam",
    masking: Masking | None = None,
    asm_precision: str | None = None,
    asm: str | Path | None = None,
    clone_steps: int | None = None,
    clone: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    name: str | None = None,
    root: str | Path | None = None,
    storage: str | Path | None = None,
    tracking_uri: str | None = None,
) -> SweepRun:
    """Train a policy offline, once per seed; pretrains the model that it starts from, where it starts from one.

    The same call resumes what was interrupted, and only reports what is complete. Progress is shown while it runs.

    Example: ``train("spin", "cheetah-run", "medium-expert", updates=2000, settings={"expectile": 0.8}).report.table``

    Args:
        algorithm: name of the method (`spin_rl.algorithms.methods.METHODS`).
        task: name of the task.
        level: level of the dataset, which has to exist.
        objective: the offline objective (`spin_rl.algorithms.objectives.OBJECTIVES`); the method's first by default,
            which is IQL for every method with a policy.
        bins: choices of each action dimension.
        version: version of the dataset; the newest by default.
        preset: sizes of the networks.
        seeds: one trial for each.
        updates: policy updates of each trial.
        evaluate_every: updates between evaluations; divides ``updates``, so that one comes at the end.
        episodes: whole episodes of an evaluation.
        asm_steps: pretraining steps, for methods that start from a model.
        asm_objective: pretraining objective: mam, vam or cam.
        masking: how sub-actions are hidden in pretraining; the preset's by default.
        asm_precision: precision of pretraining; the preset's by default.
        asm: a stored model to start from (its folder, KEY/STEP or KEY), instead of one pretrained with these settings.
        clone_steps: steps of cloning, for methods that start from a clone; ``asm_steps`` by default.
        clone: a stored clone to start from (its folder, KEY/STEP or KEY), instead of one made with these settings.
        settings: other settings of a trial by name, such as ``{"expectile": 0.7}``.
        name: name of the run; made from its settings by default.
        root: where datasets lie.
        storage: where results go.
        tracking_uri: MLflow's store; a SQLite file in the storage by default.

    Returns:
        The run's folder, report and trials; ``complete`` is False where a trial failed or was interrupted.

    Raises:
        UserError: unknown names, no such dataset or model, settings that do not fit each other, or a name that is
            taken by other settings.
    """
    objective = objective or get_method(algorithm).objectives[0]
    place, results = absolute_root(root or default_root()), storage_root(storage)
    more = parse_settings(f"{key}={json.dumps(value)}" for key, value in (settings or {}).items())
    given = {"asm": _reference(asm), "clone": _reference(clone)}
    model = given["asm"] or given["clone"]
    check_trial({"algorithm": algorithm, "objective": objective, "preset": preset, **given, **more})
    pretraining = {
        seed: asm_config(preset, seed, objective=asm_objective, masking=masking, precision=asm_precision)
        for seed in seeds
    }
    plan = training_plan(
        name=name or algorithm,
        description=f"{algorithm} with {objective} on {task} {level}.",
        algorithms=(algorithm,),
        objective=objective,
        task=task,
        level=level,
        bins=bins,
        version=version,
        root=place,
        asm_root=asm_root(results),
        pretraining=pretraining,
        asm_steps=asm_steps,
        clone_steps=clone_steps,
        preset=preset,
        updates=updates,
        evaluate_every=evaluate_every,
        episodes=episodes,
        checkpoint=None if model is None else ASMStore(asm_root(results)).find(model),
        settings=more,
    )
    if name is None:
        plan = plan.named_by_content(f"{algorithm}-{task}-{level}")
    return run_and_report(plan, results, tracking_uri=tracking_uri)


def _reference(model: str | Path | None) -> str | None:
    """A user's reference to a stored model; absolute where it is a path: Ray's workers have folders of their own."""
    if model is not None and Path(model).exists():
        model = Path(model).absolute()
    return None if model is None else str(model)
