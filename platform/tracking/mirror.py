"""Mirrors a sweep's files (`platform.results`) into MLflow: a parent run for the sweep, a child run for each trial.

Why a mirror and not MLflow's client in the trials: the default store is SQLite, which wants one writer, and a server
that is down must cost neither values nor time. The files hold everything, so the mirror may be late, be interrupted or
start over: what has been sent is recorded in ``mlflow.json`` beside the files. A server that was down receives every
value later, in order and once: values carry the time at which they were written, and MLflow's stores drop duplicates.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock
from mlflow.exceptions import MlflowException

from spin_rl.platform.common.json_files import read_json, write_json
from spin_rl.platform.tracking.client import open_experiment
from spin_rl.platform.tracking.repeat import repeat_command
from spin_rl.platform.tracking.run import RunMirror, safe_key

logger = logging.getLogger(__name__)

_TRACKING_FILE = "tracking.json"
_ONE_RUN = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE")
"""Error codes that concern one run's values; any other error is the store's, and the sync is retried."""


def remember_tracking(folder: Path, tracking_uri: str, experiment: str, tags: Mapping[str, str]) -> None:
    """Record where a sweep is tracked, so that what is missing there can be sent given the folder alone."""
    write_json(folder / _TRACKING_FILE, {"tracking_uri": tracking_uri, "experiment": experiment, "tags": dict(tags)})


def remembered_mirror(folder: Path) -> "Mirror | None":
    """The mirror of a sweep that was tracked; None where it was not."""
    if not (folder / _TRACKING_FILE).is_file():
        return None
    return Mirror(folder, **read_json(folder / _TRACKING_FILE))


class Mirror:
    """Brings a sweep's runs in MLflow up to date with its files.

    Args:
        folder: the sweep's folder.
        tracking_uri: MLflow's store.
        experiment: name of the experiment that holds the runs.
        tags: further tags of every run.
    """

    def __init__(self, folder: Path, tracking_uri: str, experiment: str, tags: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.tracking_uri = tracking_uri
        self.experiment = experiment
        self.tags = dict(tags or {})
        self._client: Any = None
        self._experiment_id = ""
        self._refused: set[Path] = set()

    def sync(self, trial_ids: set[str] | None = None) -> None:
        """Send what is new in the sweep and in these trials (None: all).

        Raises:
            UserError: the experiment was deleted.
            Exception: the store does not answer or refuses the request; calling again later loses and doubles nothing.
        """
        if self._client is None:
            self._client, self._experiment_id = open_experiment(self.tracking_uri, self.experiment)
        sweep = read_json(self.folder / "sweep.json")
        parent = ""

        def send_parent(run: RunMirror) -> None:
            nonlocal parent
            parent = run.run_id
            run.send_params(_scalars(sweep["settings"]))
            run.send_tags({"mlflow.note.content": _note(sweep), **self._common_tags(sweep)})

        key = {"key": sweep["id"], "name": sweep["name"], "started": sweep["created"]}
        self._send(self.folder, send_parent, **key)
        for path in sorted(self.folder.glob("trials/*/trial.json")):
            if trial_ids is None or path.parent.name in trial_ids:
                self._sync_trial(path, sweep, parent)
        self._send(self.folder, lambda run: run.send_state(sweep["state"], sweep.get("ended")), **key)

    def _sync_trial(self, path: Path, sweep: Mapping[str, Any], parent: str) -> None:
        trial = read_json(path)
        params = trial["params"]

        def send(run: RunMirror) -> None:
            run.send_params(params)
            links = {"mlflow.parentRunId": parent, "spin_rl.trial_id": trial["trial_id"]}
            if command := repeat_command(params):
                links["spin_rl.repeat"] = command
            model = params.get("asm") or params.get("clone")
            if model and (pretraining := self._sync_pretraining(Path(model).parent, params, sweep)):
                links["spin_rl.pretraining_run"] = pretraining
            run.send_tags(self._common_tags(sweep) | links)
            if "dataset" in params:
                folder = Path(params["dataset"])
                name = f"{folder.parent.name}/{folder.name}"
                run.send_dataset(name, str(params.get("dataset_digest", "")), str(folder), _profile(folder))
            run.send_metrics()
            run.send_state(trial["state"], trial["ended"], trial["error"])

        key = f"{sweep['id']}/{trial['trial_id']}"
        self._send(path.parent, send, key=key, name=run_name(params) or trial["trial_id"], started=trial["started"])

    def _sync_pretraining(self, folder: Path, params: Mapping[str, Any], sweep: Mapping[str, Any]) -> str | None:
        """The run of a pretrained model, which sweeps share; it has a point for each checkpoint."""
        if not (folder / "identity.json").is_file():
            return None
        run_id = ""

        def send(run: RunMirror) -> None:
            nonlocal run_id
            run_id = run.run_id
            run.send_params(_flat(read_json(folder / "identity.json")))
            run.send_tags({"spin_rl.kind": "pretraining", f"spin_rl.used_by.{safe_key(sweep['name'])}": sweep["id"]})
            run.send_checkpoints(sorted(folder.glob("step-*/checkpoint.json")))
            run.send_state("finished", None)

        seed = read_json(folder / "identity.json").get("seed", "")
        name = f"pretraining {params.get('task')}-{params.get('bins')} {params.get('level')} seed {seed}"
        with FileLock(folder / ".mlflow.lock"):
            started = (folder / "identity.json").stat().st_mtime
            self._send(folder, send, key=f"asm/{folder.name}", name=name, started=started)
        return run_id or None

    def _send(
        self, folder: Path, send: Callable[[RunMirror], None], *, key: str, name: str, started: float | None
    ) -> None:
        """Open a folder's run and send to it; a run that the store has lost is created again, complete."""
        run = RunMirror(self._client, folder, self.tracking_uri)
        for attempt in range(2):
            try:
                run.open(self._experiment_id, key=key, name=name, started=started or time.time())
                send(run)
                return
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST" and attempt == 0:
                    logger.warning("MLflow has lost the run of %s; it is created again.", folder)
                    self._client, self._experiment_id = open_experiment(self.tracking_uri, self.experiment)
                    run.forget()
                elif error.error_code in _ONE_RUN:
                    if folder not in self._refused:  # other runs are synced; this one is retried with its next value
                        logger.warning("MLflow refuses values of %s: %s", folder, error.message)
                    self._refused.add(folder)
                    return
                else:
                    raise

    def _common_tags(self, sweep: Mapping[str, Any]) -> dict[str, str]:
        code = sweep.get("provenance", {}).get("code", {})
        tags = {"spin_rl.sweep": sweep["name"], "spin_rl.command": sweep["command"]}
        for part in ("versions", "machine"):
            facts = sweep.get("provenance", {}).get(part, {})
            tags[f"spin_rl.{part}"] = ", ".join(f"{name} {value}" for name, value in facts.items())
        if code.get("commit"):
            tags |= {"mlflow.source.git.commit": code["commit"], "spin_rl.uncommitted_changes": code["dirty"]}
        return {name: str(value) for name, value in (tags | self.tags).items() if value != ""}


def run_name(params: Mapping[str, Any]) -> str:
    """A run's name for its parameters, what differs within a sweep first: ``spin seed 0 cheetah-run-3 ...``."""
    task = "-".join(str(params[name]) for name in ("task", "bins") if name in params)
    words = [params.get("algorithm")]
    words += [f"{kind} {steps}" for kind in ("asm", "clone") if (steps := params.get(f"{kind}_steps")) is not None]
    words += [f"seed {params['seed']}"] if "seed" in params else []
    words += [task or None, params.get("level"), params.get("objective")]
    return " ".join(str(word) for word in words if word is not None)


def _note(sweep: Mapping[str, Any]) -> str:
    """The parent's description until a report replaces it."""
    repeat = f"\n\n    {sweep['command']}" if sweep["command"] else ""
    return f"{sweep['description']}{repeat}"


def _scalars(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as parameters of the parent; a list of trials as its length, as each trial has a run."""
    return {
        name: len(value) if isinstance(value, list) and any(isinstance(item, dict) for item in value) else value
        for name, value in settings.items()
    }


def _flat(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in record.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _profile(folder: Path) -> dict[str, Any]:
    """The main facts of a dataset's metadata; empty where the file cannot be read from here."""
    try:
        record = json.loads((folder / "metadata.json").read_text())
    except (OSError, ValueError):
        return {}
    return {name: record[name] for name in ("transitions", "episodes", "returns", "seed") if name in record}
