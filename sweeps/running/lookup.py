"""The trials that a sweep left checkpoints of, and how they are found."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pyarrow.fs import LocalFileSystem

from spin_rl.algorithms.rllib.recovery import RECORD, last_whole_checkpoint
from spin_rl.envs import tasks
from spin_rl.errors import UserError, unknown_name
from spin_rl.platform.results.files import find_sweep, folder_name, read_sweep
from spin_rl.platform.results.seeds import one_seed_each, whole_trial


def label_of(trial: Mapping[str, Any]) -> str:
    """What a person calls a trial."""
    return f"{trial['algorithm']} {trial['task']} {trial['level']} seed {trial['seed']}"


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
    trials = one_seed_each(read_sweep(folder)).trials
    if trial_id:
        named = [trial_id in (name, whole_trial(str(name))) for name in trials.index]
        if not any(named):
            raise unknown_name("trial", trial_id, trials.index)
        trials = trials[named]
    found = []
    for number, row in trials.iterrows():
        for place in (folder / "tune").glob(f"*-{whole_trial(str(number))}"):
            if last := last_whole_checkpoint(LocalFileSystem(), str(place)):
                updates = json.loads(Path(last, RECORD).read_text())["updates"]
                of_seed = Path(last, f"seed{row['seed']}")  # where the first of several seeds lies elsewhere
                label = f"{number} {label_of(row)}"
                found.append(
                    TrainedTrial(
                        label, row["task"], int(row["bins"]), updates, of_seed if of_seed.is_dir() else Path(last)
                    )
                )
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
