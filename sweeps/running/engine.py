"""Runs a sweep plan on Ray: pretraining side by side, then trials through Tune; a killed sweep goes on."""

import logging
import os
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune import CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import SearchAlgorithm

from spin_rl.algorithms.rllib import register_algorithms
from spin_rl.algorithms.rllib.algorithm import ANY_METHOD
from spin_rl.errors import UserError
from spin_rl.platform.asm_store.store import ASMStore, asm_root
from spin_rl.platform.results.driver import drive
from spin_rl.platform.results.files import folder_name, start_sweep
from spin_rl.platform.tracking.callback import sweep_callbacks
from spin_rl.sweeps.planning.plan import SweepPlan, read_plan, write_plan
from spin_rl.sweeps.running.completion import is_complete, open_trials
from spin_rl.sweeps.running.newest_checkpoint import NewestCheckpoint
from spin_rl.sweeps.running.pretrain import pretrain_all
from spin_rl.sweeps.running.progress import Expected, SweepProgress, TrialProgress, kind_of
from spin_rl.sweeps.running.trials import PlannedTrials

EXPERIMENT = "spin-rl"


def describe(trial: Trial) -> Mapping[str, Any]:
    """A trial's flat parameters, for its files and its MLflow run."""
    return dict(trial.config["trial"])


def run_sweep(
    plan: SweepPlan,
    storage: Path,
    *,
    tracking_uri: str,
    cpus_per_trial: int = 1,
    gpus_per_trial: float = 0,
    search: SearchAlgorithm | None = None,
    scheduler: TrialScheduler | None = None,
) -> Path:
    """Run ``plan``, or go on with it; returns its folder. Ray must be up, unless all is done.

    Args:
        plan: what to run.
        storage: where results lie.
        tracking_uri: MLflow's store.
        cpus_per_trial: CPUs of each trial, which are also the threads it computes with.
        gpus_per_trial: GPUs of each trial; a fraction where several share one.
        search: asks for trials as the sweep goes on, in the place of the plan's own.
        scheduler: stops trials early.

    Raises:
        UserError: the folder holds a sweep with other settings, or more is asked for than the cluster has.
    """
    folder = open_sweep(plan, storage)
    if search is None and is_complete(folder, plan):
        return folder
    _check_resources(cpus_per_trial, gpus_per_trial)
    with drive(folder), SweepProgress() as progress:
        pretrain_all(plan.pretrainings, ASMStore(asm_root(storage)), progress)
        _fit(
            folder,
            search or PlannedTrials(plan, folder),
            scheduler,
            {"num_cpus_for_main_process": cpus_per_trial, "num_gpus_per_learner": gpus_per_trial, "log_level": "ERROR"},
            [
                *sweep_callbacks(folder, describe, tracking_uri=tracking_uri, experiment=EXPERIMENT),
                TrialProgress(progress, *_expected(plan, folder, search)),
                NewestCheckpoint(),
            ],
        )
    return folder


def open_sweep(plan: SweepPlan, storage: Path) -> Path:
    """Make the folder of ``plan``, or find it; returns it.

    Raises:
        UserError: it holds a sweep with other settings, or a trial's budget holds no evaluation.
    """
    for trial in plan.trials:
        _check_budget(trial)
    folder = storage / folder_name(plan.name)
    start_sweep(
        folder,
        name=plan.name,
        description=plan.description,
        command=_without_passwords(shlex.join([_program(), *sys.argv[1:]])),
        settings=plan.summary(),
    )
    if (kept := read_plan(folder)) is None or kept.search != plan.search:  # a search may be given more points
        write_plan(folder, plan)
    return folder


def _program() -> str:
    """What was called; a job calls our command by its file."""
    name = Path(sys.argv[0]).name
    return "spin-rl" if name == "__main__.py" else name


def _without_passwords(command: str) -> str:
    """A command as it may be kept: what stands between user and host in an address is a password."""
    return re.sub(r"(://[^:/@\s]*):[^@\s]+@", r"\1:***@", command)


def _fit(
    folder: Path,
    search: SearchAlgorithm,
    scheduler: TrialScheduler | None,
    config: dict[str, Any],
    callbacks: list[tune.Callback],
) -> None:
    register_algorithms()
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)  # it warns of its own defaults at every trial
    # for any search but its own Tune starts one worker after the other; as many as it lets a grid start at once
    os.environ.setdefault("TUNE_MAX_PENDING_TRIALS_PG", "200")
    place = folder / "tune"
    Tuner(
        ANY_METHOD,
        param_space=config,
        tune_config=TuneConfig(
            trial_dirname_creator=_directory_of,
            trial_name_creator=_directory_of,
            search_alg=search,
            scheduler=scheduler,
            reuse_actors=True,  # a new process costs seconds of imports, and most of a small trial's time
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


def _expected(plan: SweepPlan, folder: Path, search: SearchAlgorithm | None) -> tuple[Expected, Expected]:
    """Kind and updates of each trial that is to come, and of each that is done; a search's are not known before."""
    if search is not None:
        return [("", int(plan.trials[0]["updates"]))] * search.total_samples, []
    coming = open_trials(folder, plan)
    trials = {trial_id: (kind_of(trial), int(trial["updates"])) for trial_id, trial in plan.by_id().items()}
    return [trials[name] for name in coming], [trials[name] for name in trials if name not in coming]


def _reached_budget(_trial_id: str, result: Mapping[str, Any]) -> bool:
    return int(result["updates"]) >= int(result["config"]["trial"]["updates"])


def _directory_of(trial: Trial) -> str:
    params = trial.config["trial"]
    return f"{params['algorithm']}-{params['task']}-{params['level']}-seed{params['seed']}-{trial.trial_id}"


def _check_budget(trial: Mapping[str, Any]) -> None:
    updates, interval = trial["updates"], trial.get("evaluate_every", 1)
    if updates % interval:
        raise UserError(
            f"A budget of {updates:,} updates does not end with an evaluation, as there is one every {interval:,}: "
            f"make {max(1, round(updates / interval)) * interval:,} updates, or evaluate every {updates:,}."
        )


def _check_resources(cpus: int, gpus: float) -> None:
    """UserError where no node of the cluster has room for one trial."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for name, wanted in (("CPU", float(cpus)), ("GPU", gpus)):
        most = max((node.get(name, 0.0) for node in nodes), default=0.0)
        if wanted > most:
            raise UserError(
                f"A trial asks for {wanted:g} {name}, the largest node of the cluster has {most:g}: ask for less or "
                "add nodes."
            )
    if not any(node.get("CPU", 0.0) >= cpus and node.get("GPU", 0.0) >= gpus for node in nodes):
        raise UserError(f"A trial asks for {cpus} CPU and {gpus:g} GPU, no node of the cluster has both: ask for less.")
