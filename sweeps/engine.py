"""Runs a sweep plan on Ray: pretraining side by side, then trials through Tune; a killed sweep goes on."""

import json
import logging
import re
import shlex
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ray
from pyarrow.fs import LocalFileSystem
from ray import tune
from ray.tune import CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.experiment import Trial
from ray.tune.experiment.config_parser import _create_trial_from_spec, _make_parser
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import SearchAlgorithm

from spin_rl.algorithms.rllib import register_algorithms
from spin_rl.algorithms.rllib.algorithm import ANY_METHOD
from spin_rl.algorithms.rllib.recovery import RECORD, last_whole_checkpoint
from spin_rl.envs import UserError, tasks, unknown_name
from spin_rl.platform.asm_store import ASMStore, asm_root
from spin_rl.platform.results import find_sweep, folder_name, read_json, read_sweep, start_sweep
from spin_rl.platform.tracking import sweep_callbacks
from spin_rl.sweeps.plan import SweepPlan, read_plan, write_plan
from spin_rl.sweeps.pretrain import pretrain_all
from spin_rl.sweeps.progress import SweepProgress, TrialProgress

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
    with SweepProgress() as progress:
        pretrain_all(plan.pretrainings, ASMStore(asm_root(storage)), progress)
        _fit(
            folder,
            search or PlannedTrials(plan, folder),
            scheduler,
            {"num_cpus_for_main_process": cpus_per_trial, "num_gpus_per_learner": gpus_per_trial, "log_level": "ERROR"},
            [
                *sweep_callbacks(folder, describe, tracking_uri=tracking_uri, experiment=EXPERIMENT),
                TrialProgress(progress, _expected(plan, search)),
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
        command=_without_passwords(shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])),
        settings=plan.summary(),
    )
    if (kept := read_plan(folder)) is None or kept.search != plan.search:  # a search may be given more points
        write_plan(folder, plan)
    return folder


def _without_passwords(command: str) -> str:
    """A command as it may be kept: what stands between user and host in an address is a password."""
    return re.sub(r"(://[^:/@\s]*):[^@\s]+@", r"\1:***@", command)


def is_complete(folder: Path, plan: SweepPlan) -> bool:
    """Whether every trial of ``plan`` has come to its end in ``folder``."""
    if plan.search:
        from spin_rl.sweeps.searched import is_searched  # Optuna takes a second, and few sweeps need it

        return is_searched(folder, plan)
    return not open_trials(folder, plan)


def open_trials(folder: Path, plan: SweepPlan) -> dict[str, Mapping[str, Any]]:
    """The trials of ``plan`` that are still to be run, or to be gone on with, by id."""
    return {trial_id: trial for trial_id, trial in plan.by_id().items() if _state(folder, trial_id) not in _DONE}


_DONE = ("finished", "pruned")


def _state(folder: Path, trial_id: str) -> str | None:
    path = folder / "trials" / trial_id / "trial.json"
    return str(read_json(path)["state"]) if path.is_file() else None


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


class PlannedTrials(SearchAlgorithm):
    """Gives Tune the trials of a plan that are not done yet, in the plan's order.

    Tune's own notes of a sweep are not read: whatever became of them, the files of the results say which trials are
    done, and each of the others finds its last checkpoint under its id.
    """

    def __init__(self, plan: SweepPlan, folder: Path) -> None:
        self._open = deque(open_trials(folder, plan).items())
        self._count = len(self._open)
        self._parser = _make_parser()
        self._spec: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its configuration

    @property
    def total_samples(self) -> int:
        return self._count

    def add_configurations(self, experiments: Any) -> None:
        self._spec = (experiments[0] if isinstance(experiments, list) else experiments).spec

    def next_trial(self) -> Trial | None:
        if not self._open:
            return None
        trial_id, params = self._open.popleft()
        spec = {**self._spec, "config": {**self._spec["config"], "trial": dict(params)}}
        made: Trial = _create_trial_from_spec(spec, self._parser, evaluated_params=dict(params), trial_id=trial_id)
        return made

    def is_finished(self) -> bool:
        return bool(self._finished) or not self._open


def _fit(
    folder: Path,
    search: SearchAlgorithm,
    scheduler: TrialScheduler | None,
    config: dict[str, Any],
    callbacks: list[tune.Callback],
) -> None:
    register_algorithms()
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)  # it warns of its own defaults at every trial
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
            checkpoint_config=CheckpointConfig(checkpoint_frequency=1, num_to_keep=1, checkpoint_at_end=False),
            failure_config=FailureConfig(max_failures=3),
            verbose=0,
        ),
    ).fit()


def _expected(plan: SweepPlan, search: SearchAlgorithm | None) -> list[tuple[str, int]]:
    """Label and updates of each trial that is to come; what a search asks for is not known before."""
    if search is None:
        return [(label_of(trial), int(trial["updates"])) for trial in plan.trials]
    return [("", int(plan.trials[0]["updates"]))] * search.total_samples


def _reached_budget(_trial_id: str, result: Mapping[str, Any]) -> bool:
    return int(result["updates"]) >= int(result["config"]["trial"]["updates"])


def label_of(trial: Mapping[str, Any]) -> str:
    """What a person calls a trial."""
    return f"{trial['algorithm']} {trial['task']} {trial['level']} seed {trial['seed']}"


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


def _check_resources(cpus_per_trial: int, gpus_per_trial: float) -> None:
    have = ray.cluster_resources()
    for name, wanted in (("CPU", float(cpus_per_trial)), ("GPU", gpus_per_trial)):
        if wanted > have.get(name, 0.0):
            raise UserError(
                f"A trial asks for {wanted:g} {name}, the cluster has {have.get(name, 0.0):g}: "
                "ask for less or add nodes."
            )
