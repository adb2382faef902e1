"""Runs a sweep plan on Ray: pretraining side by side, then trials through Tune; a killed sweep goes on."""

import json
import logging
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ray
from pyarrow.fs import LocalFileSystem
from ray import tune
from ray.tune import CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.experiment import Trial
from ray.tune.search import BasicVariantGenerator

from spin_rl.algorithms.rllib import register_algorithms
from spin_rl.algorithms.rllib.algorithm import ANY_METHOD
from spin_rl.algorithms.rllib.recovery import RECORD, last_whole_checkpoint
from spin_rl.envs import UserError, tasks, unknown_name
from spin_rl.platform.asm_store import ASMStore, asm_root, identity_key
from spin_rl.platform.results import find_sweep, folder_name, read_sweep, start_sweep
from spin_rl.platform.tracking import sweep_callbacks
from spin_rl.sweeps.plan import SweepPlan
from spin_rl.sweeps.pretrain import pretrain_all
from spin_rl.sweeps.progress import SweepProgress, TrialProgress

EXPERIMENT = "spin-rl"


def describe(trial: Trial) -> Mapping[str, Any]:
    """A trial's flat parameters, for its files and its MLflow run."""
    return dict(trial.config["trial"])


def run_sweep(
    plan: SweepPlan, storage: Path, *, tracking_uri: str, cpus_per_trial: int = 1, gpus_per_trial: float = 0
) -> Path:
    """Run ``plan``, or go on with it; returns its folder. Ray must be up.

    Raises:
        UserError: the folder holds a sweep with other settings, or more is asked for than the cluster has.
    """
    folder = storage / folder_name(plan.name)
    _check_resources(cpus_per_trial, gpus_per_trial)
    start_sweep(
        folder,
        name=plan.name,
        description=plan.description,
        command=shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        settings=plan.summary(),
    )
    if is_complete(folder, plan):
        return folder
    with SweepProgress() as progress:
        pretrain_all(plan.pretrainings, ASMStore(asm_root(storage)), progress)
        _fit(plan, folder, tracking_uri, progress, cpus_per_trial, gpus_per_trial)
    return folder


def is_complete(folder: Path, plan: SweepPlan) -> bool:
    """Whether every trial of ``plan`` has been finished in ``folder``."""
    if not (folder / "trials").is_dir():
        return False
    trials = read_sweep(folder).trials
    return len(trials) >= len(plan.trials) and bool((trials["state"] == "finished").all())


class TrainedTrial(NamedTuple):
    """A trial that left a checkpoint."""

    label: str
    task: str
    bins: int
    updates: int
    checkpoint: Path


def find_trials(run: str, storage: Path) -> list[TrainedTrial]:
    """The trials that ``run`` names: a sweep (name or folder), one trial (``SWEEP/TRIAL``) or a checkpoint's folder.

    Raises:
        UserError: there is no such sweep or trial, or none with a checkpoint.
    """
    if (Path(run) / "agent.json").exists():
        return [_trial_of(Path(run))]
    name, _, trial_id = run.rpartition("/")
    if trial_id and name and not (storage / folder_name(run)).exists() and not Path(run).exists():
        folder = find_sweep(name, storage)
    else:
        folder, trial_id = find_sweep(run, storage), ""
    trials = read_sweep(folder).trials
    if trial_id:
        if trial_id not in trials.index:
            raise unknown_name("trial", trial_id, trials.index)
        trials = trials.loc[[trial_id]]
    found = []
    for number, row in trials.iterrows():
        for place in (folder / "tune").glob(f"*-{number}"):
            if last := last_whole_checkpoint(LocalFileSystem(), str(place)):
                updates = json.loads(Path(last, RECORD).read_text())["updates"]
                label = f"{number} {label_of(row)}"
                found.append(TrainedTrial(label, row["task"], int(row["bins"]), updates, Path(last)))
    if not found:
        raise UserError(f"{folder} holds no checkpoint yet; wait for its first, or go on with it by its own command.")
    return found


def _trial_of(checkpoint: Path) -> TrainedTrial:
    """The trial that wrote the checkpoint in this folder, or the file that it was imported from."""
    settings = json.loads((checkpoint / "settings.json").read_text())
    known = {task.gym_id: task for task in tasks().values()}
    if settings["env"] not in known:
        raise unknown_name("task", settings["env"], known)
    task = known[settings["env"]]
    updates = json.loads((checkpoint / "progress.json").read_text())["updates"]
    return TrainedTrial(f"{settings['method_name']} {checkpoint.name}", task.name, task.bins, updates, checkpoint)


def _fit(
    plan: SweepPlan,
    folder: Path,
    tracking_uri: str,
    progress: SweepProgress,
    cpus_per_trial: int,
    gpus_per_trial: float,
) -> None:
    register_algorithms()
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)  # it warns of its own defaults at every trial
    callbacks = [
        *sweep_callbacks(folder, describe, tracking_uri=tracking_uri, experiment=EXPERIMENT),
        TrialProgress(progress, [(label_of(trial), int(trial["updates"])) for trial in plan.trials]),
    ]
    place = folder / "tune"
    if Tuner.can_restore(str(place)):
        tuner = Tuner.restore(
            str(place),
            ANY_METHOD,
            resume_unfinished=True,
            resume_errored=True,
            param_space=_param_space(plan, cpus_per_trial, gpus_per_trial),
        )
        _replace_callbacks(tuner, callbacks)
    else:
        tuner = Tuner(
            ANY_METHOD,
            param_space=_param_space(plan, cpus_per_trial, gpus_per_trial),
            tune_config=TuneConfig(
                trial_dirname_creator=_directory_of, trial_name_creator=_directory_of, search_alg=_grid(plan)
            ),
            run_config=RunConfig(
                name=place.name,
                storage_path=str(folder),
                stop=_reached_budget,
                callbacks=callbacks,
                checkpoint_config=CheckpointConfig(checkpoint_frequency=1, num_to_keep=1, checkpoint_at_end=False),
                failure_config=FailureConfig(max_failures=3),
                verbose=0,
            ),
        )
    tuner.fit()


def _param_space(plan: SweepPlan, cpus_per_trial: int, gpus_per_trial: float) -> dict[str, Any]:
    return {
        "trial": tune.grid_search([dict(trial) for trial in plan.trials]),
        "num_cpus_for_main_process": cpus_per_trial,
        "num_gpus_per_learner": gpus_per_trial,
        "log_level": "ERROR",
    }


def _grid(plan: SweepPlan) -> BasicVariantGenerator:
    """Tune's grid search, with trial ids that are a function of the plan.

    A driver that is killed while it writes its note of the trials loses them: Tune then begins anew, and each trial has
    to find its files under its name.
    """
    search = BasicVariantGenerator()
    search._uuid_prefix = f"{identity_key({'trials': plan.trials})[:5]}_"
    return search


def _reached_budget(_trial_id: str, result: Mapping[str, Any]) -> bool:
    return int(result["updates"]) >= int(result["config"]["trial"]["updates"])


def label_of(trial: Mapping[str, Any]) -> str:
    """What a person calls a trial."""
    return f"{trial['algorithm']} {trial['task']} {trial['level']} seed {trial['seed']}"


def _directory_of(trial: Trial) -> str:
    params = trial.config["trial"]
    return f"{params['algorithm']}-{params['task']}-{params['level']}-seed{params['seed']}-{trial.trial_id}"


def _replace_callbacks(tuner: Tuner, callbacks: list[tune.Callback]) -> None:
    """A restored Tuner comes with the callbacks that were pickled with it; those of this process take their place."""
    tuner._local_tuner.get_run_config().callbacks = callbacks


def _check_resources(cpus_per_trial: int, gpus_per_trial: float) -> None:
    have = ray.cluster_resources()
    for name, wanted in (("CPU", float(cpus_per_trial)), ("GPU", gpus_per_trial)):
        if wanted > have.get(name, 0.0):
            raise UserError(
                f"A trial asks for {wanted:g} {name}, the cluster has {have.get(name, 0.0):g}: "
                "ask for less or add nodes."
            )
