"""The builder of plans: points become flat trials, and the models that they start from are collected.

Grids, searches, the quickstart and ``spin-rl train`` all build their plans here.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spin_rl.algorithms.asm.files import read_shape
from spin_rl.algorithms.asm.model import TRUNK_SIZES
from spin_rl.algorithms.asm.pretraining import ASMConfig
from spin_rl.algorithms.methods import get_method
from spin_rl.algorithms.presets import get_preset
from spin_rl.algorithms.pretraining.base import PretrainingConfig
from spin_rl.algorithms.pretraining.checkpoints import model_identity
from spin_rl.algorithms.settings import check_trial, preset_of_trial
from spin_rl.algorithms.training.agent import check_asm_data
from spin_rl.envs import get_task
from spin_rl.errors import UserError
from spin_rl.platform.asm_store.store import ASMCheckpoint, ASMStore
from spin_rl.platform.datasets import OfflineDataset, open_dataset
from spin_rl.sweeps.planning.datasets import dataset_path
from spin_rl.sweeps.planning.evaluations import evaluation_interval, updates_per_iteration
from spin_rl.sweeps.planning.models import asm_config, clone_config, masking_of
from spin_rl.sweeps.planning.plan import PretrainingPlan, SweepPlan
from spin_rl.sweeps.planning.space import SETTINGS, SIZES, Point, Space


class PlanBuilder:
    """Turns points into trials, and collects the pretrainings that they need.

    Args:
        root: where datasets are stored.
        asm_root: where action structure models are stored.
    """

    def __init__(self, root: str, asm_root: Path) -> None:
        self.root, self._store = root, ASMStore(asm_root)
        self._datasets: dict[tuple[Any, ...], OfflineDataset] = {}
        self._models: dict[tuple[str, PretrainingConfig], set[int]] = {}

    def dataset(self, point: Mapping[str, Any]) -> OfflineDataset:
        """The dataset of a point, opened once."""
        key = (point["task"], point["bins"], point["level"], point.get("version"))
        if key not in self._datasets:
            task, bins, level, version = key
            self._datasets[key] = open_dataset(task, level, bins=bins, root=self.root, version=version)
        return self._datasets[key]

    def trial(
        self, point: Point, pretraining: ASMConfig | None = None, checkpoint: ASMCheckpoint | None = None
    ) -> dict[str, Any]:
        """The trial of a point.

        Args:
            point: a value for every parameter. With ``evaluate_every`` in the place of ``evaluations`` that interval
                is also the length of an iteration.
            pretraining: of the action structure model to start from; by default made from the point's parameters.
            checkpoint: a stored model to start from; then nothing is pretrained, and where the sizes of its trunk are
                not the preset's, the policy takes the model's.

        Raises:
            UserError: settings do not fit each other, the dataset or the checkpoint.
        """
        dataset = self.dataset(point)
        trial = {**self._data(point, dataset), **_budget(point), **_settings(point)}
        method = get_method(point["algorithm"])
        if method.uses_clone and checkpoint:
            trial |= _given("clone", checkpoint, trial)
        elif method.pretrained:
            config: PretrainingConfig
            if method.uses_clone:
                config = clone_config(method.name, preset_of_trial(trial), point["seed"])
                steps = _steps(point, dataset, config, "clone", "asm")  # as long as an ASM's by default
                trial |= self._planned("clone", dataset, config, steps)
            else:
                config = pretraining or _pretraining(point)
                steps = _steps(point, dataset, config, "asm")
                trial |= self._planned_model(dataset, config, steps)
            if checkpoint:
                trial |= _given_model(checkpoint, trial)
            else:
                self._models.setdefault((trial["dataset"], config), set()).add(steps)
        check_trial(trial)
        return trial

    def plan(
        self,
        name: str,
        description: str,
        trials: Sequence[Mapping[str, Any]],
        *,
        space: Space | None = None,
        search: Mapping[str, Any] | None = None,
    ) -> SweepPlan:
        """The plan of trials that this builder made, with all pretrainings that were needed so far.

        Args:
            name: the sweep's name.
            description: a sentence for its report.
            trials: the trials to run, or of a search those whose models have to be pretrained.
            space: the parameters that vary, with their values.
            search: what is searched over and how; None where every trial is run.
        """
        pretrainings = tuple(
            PretrainingPlan(path, config, tuple(sorted(steps))) for (path, config), steps in self._models.items()
        )
        return SweepPlan(name, description, tuple(trials), pretrainings, dict(space or {}), search=search or {})

    def _data(self, point: Point, dataset: OfflineDataset) -> dict[str, Any]:
        meta = dataset.meta
        return {
            "algorithm": point["algorithm"],
            "task": meta.task,
            "bins": meta.bins,
            "level": meta.level,
            "dataset": dataset_path(self.root, dataset),
            "dataset_digest": meta.digest,
            "environment": get_task(meta.task, meta.bins).gym_id,
            **{name: point[name] for name in ("objective", "seed", "preset")},
        }

    def _planned_model(self, dataset: OfflineDataset, config: ASMConfig, steps: int) -> dict[str, Any]:
        """The model that a trial starts from; ``asm`` is where it will be once it is pretrained."""
        described = self._planned("asm", dataset, config, steps)
        described["asm_masking"] = "variable" if config.masking.variable else "fixed"
        if config.objective != "mam":
            described["asm_objective"] = config.objective
        return described

    def _planned(self, kind: str, dataset: OfflineDataset, config: PretrainingConfig, steps: int) -> dict[str, Any]:
        """Where an ``asm`` or a ``clone`` will be once it is made, and how long it is pretrained."""
        return {
            kind: str(self._store.place(dataset.meta.key, model_identity(dataset, config), steps)),
            f"{kind}_steps": steps,
            f"{kind}_epochs": round(steps * config.batch_size / len(dataset), 2),
        }


def _pretraining(point: Point) -> ASMConfig:
    """The pretraining of a point's model; the width of its heads is the preset's, as no policy takes them over."""
    return asm_config(
        point["preset"],
        point["seed"],
        objective=point.get("asm_objective", "mam"),
        masking=masking_of(point["preset"], point.get("asm_masking")),
        precision=point.get("asm_precision"),
        sizes={name: point[name] for name in TRUNK_SIZES if name in point},
    )


def _budget(point: Point) -> dict[str, Any]:
    if "evaluate_every" in point:
        interval = iteration = point["evaluate_every"]
    else:
        interval = evaluation_interval(point["updates"], point["evaluations"])
        iteration = updates_per_iteration(interval)
    return {
        "updates": point["updates"],
        "evaluate_every": interval,
        "updates_per_iteration": iteration,
        "evaluation_episodes": point["episodes"],
    }


def _settings(point: Point) -> dict[str, Any]:
    """A point's other settings; sizes are fields of the network, and stay readable by their own names."""
    sizes = {name: point[name] for name in SIZES if name in point}
    settings = {name: point[name] for name in SETTINGS if name in point}
    if sizes:
        network = settings.pop("network", {})
        settings |= {**sizes, "network": {**network, "asm": {**network.get("asm", {}), **sizes}}}
    if "asm_precision" in point:
        settings["asm_precision"] = point["asm_precision"]
    return settings


def _given_model(checkpoint: ASMCheckpoint, trial: Mapping[str, Any]) -> dict[str, Any]:
    model, usual = read_shape(Path(checkpoint.path)).sizes, get_preset(trial["preset"]).asm
    differing = {name: getattr(model, name) for name in TRUNK_SIZES if getattr(model, name) != getattr(usual, name)}
    network = trial.get("network", {})  # the sizes that the trial has itself, those of the heads, stay
    return {
        **_given("asm", checkpoint, trial),
        "asm_masking": "given",
        **({"network": {**network, "asm": {**network.get("asm", {}), **differing}}} if differing else {}),
    }


def _given(kind: str, checkpoint: ASMCheckpoint, trial: Mapping[str, Any]) -> dict[str, Any]:
    """A stored ``asm`` or ``clone``, which has to be of the trial's task."""
    check_asm_data(checkpoint, trial["task"], trial["bins"])
    return {kind: checkpoint.path, f"{kind}_steps": checkpoint.step, f"{kind}_epochs": round(checkpoint.epoch, 2)}


def _steps(point: Point, dataset: OfflineDataset, config: PretrainingConfig, *kinds: str) -> int:
    """Steps of a pretraining: those that the point names for the first of ``kinds`` that it names any for."""
    for kind in kinds:
        if f"{kind}_epochs" in point:
            return int(point[f"{kind}_epochs"]) * -(-len(dataset) // config.batch_size)
        if f"{kind}_steps" in point:
            return int(point[f"{kind}_steps"])
    steps = f"{kinds[0]}_steps"
    raise UserError(f"{point['algorithm']} needs {steps} or {kinds[0]}_epochs: give one with --set {steps}=1000.")
