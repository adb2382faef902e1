"""Runs a sweep plan on Ray: models are pretrained, then trials run through Tune. A killed sweep is resumed."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import SearchAlgorithm

from spin_rl.algorithms.rllib import register_algorithms
from spin_rl.algorithms.rllib.algorithm import ANY_METHOD
from spin_rl.platform.asm_store.store import ASMStore, asm_root
from spin_rl.platform.results.driver import drive
from spin_rl.platform.tracking.callback import sweep_callbacks
from spin_rl.sweeps.planning.plan import SweepPlan
from spin_rl.sweeps.running.completion import open_trials
from spin_rl.sweeps.running.newest_checkpoint import NewestCheckpoint
from spin_rl.sweeps.running.opening import open_sweep
from spin_rl.sweeps.running.pretrain import pretrain_all
from spin_rl.sweeps.running.progress import Expected, SweepProgress, TrialProgress, kind_of
from spin_rl.sweeps.running.resources import TrialResources
from spin_rl.sweeps.running.tune_trials import TrialQueue

EXPERIMENT = "spin-rl"
"""Name of the MLflow experiment that holds the runs."""


def run_grid(plan: SweepPlan, storage: Path, *, tracking_uri: str, resources: TrialResources | None = None) -> Path:
    """Run every trial of ``plan`` that is not done; returns the sweep's folder. Ray must be up, unless all is done.

    Args:
        plan: what to run.
        storage: where results are stored.
        tracking_uri: MLflow's store.
        resources: of each trial; one CPU by default.

    Raises:
        UserError: the folder holds a sweep with other settings, or no node of the cluster has room for a trial.
    """
    folder = open_sweep(plan, storage)
    trials = plan.by_id()
    if coming := open_trials(folder, plan):
        run_trials(
            plan,
            folder,
            TrialQueue(coming),
            coming=[_expected(trial) for trial in coming.values()],
            done=[_expected(trial) for trial_id, trial in trials.items() if trial_id not in coming],
            tracking_uri=tracking_uri,
            resources=resources or TrialResources(),
        )
    return folder


def run_trials(
    plan: SweepPlan,
    folder: Path,
    source: SearchAlgorithm,
    *,
    coming: Expected,
    done: Expected = (),
    tracking_uri: str,
    resources: TrialResources,
    scheduler: TrialScheduler | None = None,
) -> None:
    """Pretrain what ``plan`` needs, then run the trials that ``source`` gives. Ray must be up.

    Args:
        plan: what the trials belong to.
        folder: the sweep's folder, made by `open_sweep`.
        source: gives Tune the trials.
        coming: kind and updates of the trials that are expected.
        done: kind and updates of the trials that are done.
        tracking_uri: MLflow's store.
        resources: of each trial.
        scheduler: ends trials early.

    Raises:
        UserError: no node of the cluster has room for a trial, or another process runs the sweep.
    """
    resources.check()
    with drive(folder), SweepProgress() as progress:
        pretrain_all(plan.pretrainings, ASMStore(asm_root(folder.parent)), progress)
        _fit(
            folder,
            source,
            scheduler,
            {"num_cpus_for_main_process": resources.cpus, "num_gpus_per_learner": resources.gpus, "log_level": "ERROR"},
            [
                *sweep_callbacks(folder, describe, tracking_uri=tracking_uri, experiment=EXPERIMENT),
                TrialProgress(progress, coming, done),
                NewestCheckpoint(),
            ],
        )


def describe(trial: Trial) -> Mapping[str, Any]:
    """A trial's flat parameters, for its files and its MLflow run."""
    return dict(trial.config["trial"])


def _fit(
    folder: Path,
    source: SearchAlgorithm,
    scheduler: TrialScheduler | None,
    config: dict[str, Any],
    callbacks: list[tune.Callback],
) -> None:
    register_algorithms()
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)  # it warns of its own defaults at every trial
    # with search algorithms other than its own Tune starts one worker at a time; for its own grids it starts this many
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "200")
    place = folder / "tune"
    Tuner(
        ANY_METHOD,
        param_space=config,
        tune_config=TuneConfig(
            trial_dirname_creator=_directory_of,
            trial_name_creator=_directory_of,
            search_alg=source,
            scheduler=scheduler,
            reuse_actors=True,  # a new process costs seconds of imports, which is most of a small trial's time
        ),
        run_config=RunConfig(
            name=place.name,
            storage_path=str(folder),
            stop=_reached_budget,
            callbacks=callbacks,
            checkpoint_config=CheckpointConfig(checkpoint_frequency=1, checkpoint_at_end=False),
            failure_config=FailureConfig(max_failures=3),
            verbose=0,
        ),
    ).fit()


def _expected(trial: Mapping[str, Any]) -> tuple[str, int]:
    return kind_of(trial), int(trial["updates"])


def _reached_budget(_trial_id: str, result: Mapping[str, Any]) -> bool:
    return int(result["updates"]) >= int(result["config"]["trial"]["updates"])


def _directory_of(trial: Trial) -> str:
    params = trial.config["trial"]
    return f"{params['algorithm']}-{params['task']}-{params['level']}-seed{params['seed']}-{trial.trial_id}"
