"""The plan of ``spin-rl train`` and of the quickstart: methods with seeds on one dataset."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spin_rl.algorithms.asm.pretraining import ASMConfig
from spin_rl.errors import UserError
from spin_rl.platform.asm_store.store import ASMCheckpoint
from spin_rl.sweeps.planning.builder import PlanBuilder
from spin_rl.sweeps.planning.plan import SweepPlan
from spin_rl.sweeps.planning.space import starts_from_model


def training_plan(
    *,
    name: str,
    description: str,
    algorithms: Sequence[str],
    objective: str,
    task: str,
    level: str,
    bins: int,
    version: int | None,
    root: str,
    asm_root: Path,
    pretraining: Mapping[int, ASMConfig],
    asm_steps: int,
    preset: str,
    updates: int,
    evaluate_every: int,
    episodes: int,
    checkpoint: ASMCheckpoint | None = None,
    settings: Mapping[str, Any] | None = None,
    clone_steps: int | None = None,
) -> SweepPlan:
    """Every method with every seed on one dataset; a seed's model is pretrained with that seed.

    Args:
        name: the sweep's name.
        description: a sentence for its report.
        algorithms: methods to train.
        objective: offline objective of all of them.
        task: task of the dataset that they train on.
        level: its level.
        bins: its choices per action dimension.
        version: its version; the newest by default.
        root: where datasets are stored.
        asm_root: where action structure models are stored.
        pretraining: configuration of the action structure model for each seed; its keys are the seeds.
        asm_steps: pretraining steps.
        preset: sizes of the networks.
        updates: policy updates of every trial.
        evaluate_every: updates between evaluations; the last one comes at the end.
        episodes: episodes of an evaluation.
        checkpoint: a stored model that all start from, in the place of models pretrained for them.
        settings: other settings of all trials.
        clone_steps: steps of cloning; as many as ``asm_steps`` by default.

    Raises:
        UserError: settings do not fit each other, or no method starts from a model and a checkpoint is given.
    """
    if checkpoint and not any(map(starts_from_model, algorithms)):
        raise UserError(f"{checkpoint.path} cannot be used: none of the algorithms starts from a pretrained model.")
    builder = PlanBuilder(root, asm_root)
    shared = {
        "task": task,
        "bins": bins,
        "level": level,
        "version": version,
        "objective": objective,
        "preset": preset,
        "updates": updates,
        "evaluate_every": evaluate_every,
        "episodes": episodes,
        "asm_steps": asm_steps,
        "clone_steps": asm_steps if clone_steps is None else clone_steps,
        **(settings or {}),
    }
    trials = [
        builder.trial({**shared, "algorithm": algorithm, "seed": seed}, config, checkpoint)
        for algorithm in algorithms
        for seed, config in pretraining.items()
    ]
    return builder.plan(name, description, trials)
