"""Trained policies by the names that users give: a sweep, one of its trials, or a checkpoint's folder."""

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
    """A trial's name for readers."""
    return f"{trial['algorithm']} {trial['task']} {trial['level']} seed {trial['seed']}"


class TrainedPolicy(NamedTuple):
    """The policy in a trial's last checkpoint."""

    label: str
    task: str
    bins: int
    updates: int
    checkpoint: Path


def find_policies(run: str, storage: Path) -> list[TrainedPolicy]:
    """The last policy of each trial that ``run`` names.

    Args:
        run: a sweep (name or folder), one of its trials (``SWEEP/TRIAL``) or a checkpoint's folder.
        storage: where results are stored.

    Raises:
        UserError: there is no such sweep or trial, or none has a checkpoint.
    """
    if (Path(run) / "agent.json").exists():
        return [_policy_in(Path(run))]
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
                    TrainedPolicy(
                        label, row["task"], int(row["bins"]), updates, of_seed if of_seed.is_dir() else Path(last)
                    )
                )
    if not found:
        raise UserError(f"{folder} holds no checkpoint yet; wait for the first, or resume it by its own command.")
    return found


def _policy_in(checkpoint: Path) -> TrainedPolicy:
    """The policy in a checkpoint's folder, whose settings say what it was trained or imported as."""
    settings = json.loads((checkpoint / "settings.json").read_text())
    known = {task.gym_id: task for task in tasks().values()}
    if settings["env"] not in known:
        raise unknown_name("task", settings["env"], known)
    task = known[settings["env"]]
    updates = json.loads((checkpoint / "progress.json").read_text())["updates"]
    return TrainedPolicy(f"{settings['method_name']} {checkpoint.name}", task.name, task.bins, updates, checkpoint)
