"""What a sweep is: flat trials over data that exists, and the action structure models that they start from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from spin_rl.algorithms.asm.checkpoints import asm_identity
from spin_rl.algorithms.asm.files import read_shape
from spin_rl.algorithms.asm.masking import Masking
from spin_rl.algorithms.asm.model import TRUNK_SIZES, ASMSizes
from spin_rl.algorithms.asm.pretraining import ASMConfig
from spin_rl.algorithms.methods import get_method, get_preset
from spin_rl.algorithms.training.agent import check_asm_data
from spin_rl.envs import get_task
from spin_rl.errors import UserError
from spin_rl.platform.asm_store.store import ASMCheckpoint, ASMStore
from spin_rl.platform.common.identity import identity_key
from spin_rl.platform.common.json_files import read_json, write_json
from spin_rl.platform.datasets import OfflineDataset


@dataclass(frozen=True)
class PretrainingPlan:
    """A model that trials need, at the steps they need it at."""

    dataset: str  # folder of the dataset
    config: ASMConfig
    steps: tuple[int, ...]


@dataclass(frozen=True)
class SweepPlan:
    """A sweep's name, its trials and what has to be pretrained for them.

    A trial is a flat dictionary: settings of ``OfflineConfig`` by name, ``updates`` (its budget), what describes it.
    """

    name: str
    description: str
    trials: tuple[Mapping[str, Any], ...]
    pretrainings: tuple[PretrainingPlan, ...] = ()
    space: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)  # what the trials are the points of
    sweep: str = ""  # the name or the file of the `Sweep` that it is a plan of
    search: Mapping[str, Any] = field(default_factory=dict)  # what is drawn from the space, where it is not run whole

    def by_id(self) -> dict[str, Mapping[str, Any]]:
        """The trials under ids that are a function of the plan, so that each finds its own files after any kill."""
        prefix = identity_key({"trials": self.trials})[:5]
        return {f"{prefix}_{number:05d}": trial for number, trial in enumerate(self.trials)}

    def summary(self) -> dict[str, Any]:
        """What all trials share, how many there are, and a digest of everything that makes this plan this one."""
        first, *others = self.trials
        shared = {name: value for name, value in first.items() if all(trial.get(name) == value for trial in others)}
        key: dict[str, Any] = {"trials": self.trials}
        if self.search:  # a search goes on with more points
            key["search"] = {name: value for name, value in self.search.items() if name != "points"}
        return {**shared, "trials": len(self.trials), "plan": identity_key(key)}

    def named(self, name: str) -> "SweepPlan":
        """The same plan under another name."""
        return replace(self, name=name)


def write_plan(folder: Path, plan: SweepPlan) -> None:
    """Keep ``plan`` in a sweep's folder, so that it can be gone on with by its name alone."""
    write_json(folder / _PLAN, asdict(plan))


def read_plan(folder: Path) -> SweepPlan | None:
    """What ``write_plan`` kept; None where a folder has none.

    Raises:
        UserError: it cannot be read.
    """
    if not (folder / _PLAN).is_file():
        return None
    record = read_json(folder / _PLAN)
    try:
        pretrainings = [
            PretrainingPlan(item["dataset"], _asm_config(item["config"]), tuple(item["steps"]))
            for item in record["pretrainings"]
        ]
        space = {name: tuple(values) for name, values in record["space"].items()}
        return SweepPlan(
            **{**record, "trials": tuple(record["trials"]), "pretrainings": tuple(pretrainings), "space": space}
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / _PLAN} holds no plan ({error!r}); give the whole command again.") from error


_PLAN = "plan.json"


def _asm_config(record: Mapping[str, Any]) -> ASMConfig:
    nested = {"sizes": ASMSizes(**record["sizes"]), "masking": Masking(**record["masking"])}
    return ASMConfig(**{**record, **nested})


def methods_plan(
    *,
    name: str,
    description: str,
    algorithms: tuple[str, ...],
    objective: str,
    dataset: OfflineDataset,
    root: str,
    asm_root: Path,
    asm_configs: Mapping[int, ASMConfig],
    asm_steps: int,
    **settings: Any,
) -> SweepPlan:
    """Every method with every seed on one dataset; a seed's model is pretrained with that seed.

    Args:
        name: the sweep's name.
        description: a sentence for its report.
        algorithms: methods to train.
        objective: offline objective of all of them.
        dataset: what they train on.
        root: where it lies.
        asm_root: where action structure models lie.
        asm_configs: configuration of the model for each seed; its keys are the seeds.
        asm_steps: pretraining steps.
        **settings: settings of all trials (``updates``, ``evaluate_every``, ``preset``, ...).
    """
    store = ASMStore(asm_root)
    uses_asm = [get_method(algorithm).uses_asm for algorithm in algorithms]
    trials = [
        make_trial(
            algorithm=algorithm,
            objective=objective,
            root=root,
            dataset=dataset,
            seed=seed,
            store=store,
            asm_config=config,
            asm_steps=asm_steps,
            **settings,
        )
        for algorithm in algorithms
        for seed, config in asm_configs.items()
    ]
    path = dataset_path(root, dataset)
    pretrainings = [PretrainingPlan(path, config, (asm_steps,)) for config in asm_configs.values()]
    return SweepPlan(name, description, tuple(trials), tuple(pretrainings if any(uses_asm) else ()))


def evaluation_interval(updates: int, evaluations: int) -> int:
    """Updates between about ``evaluations`` evaluations that lie at equal distances and the last of them at the end.

    Raises:
        UserError: there are fewer updates than evaluations, or they cannot be divided so.
    """
    if updates < evaluations:
        raise UserError(
            f"A budget of {updates:,} updates is smaller than one evaluation's distance: make more updates, or fewer "
            f"than {evaluations} evaluations."
        )
    near = range(-(-evaluations // 2), min(2 * evaluations, updates) + 1)
    for count in sorted(near, key=lambda count: abs(count - evaluations)):
        if updates % count == 0:
            return updates // count
    rounded = evaluations * round(updates / evaluations)
    raise UserError(
        f"{updates:,} updates cannot be divided by about {evaluations} evaluations so that one comes at the end: make "
        f"{rounded:,} updates."
    )


def dataset_path(root: str, dataset: OfflineDataset) -> str:
    """The folder of an opened dataset, as ``offline_data(input_=...)`` takes it."""
    return f"{root.rstrip('/')}/{dataset.meta.key}"


def make_trial(
    *,
    algorithm: str,
    root: str,
    dataset: OfflineDataset,
    store: ASMStore,
    asm_config: ASMConfig,
    asm_steps: int,
    **settings: Any,
) -> dict[str, Any]:
    """One trial; ``asm`` is where its model will lie once it is pretrained."""
    meta = dataset.meta
    trial: dict[str, Any] = {
        "algorithm": algorithm,
        "task": meta.task,
        "bins": meta.bins,
        "level": meta.level,
        "dataset": dataset_path(root, dataset),
        "dataset_digest": meta.digest,
        "environment": get_task(meta.task, meta.bins).gym_id,
        **settings,
    }
    if get_method(algorithm).uses_asm:
        trial |= {
            "asm": str(store.place(meta.key, asm_identity(dataset, asm_config), asm_steps)),
            "asm_steps": asm_steps,
            "asm_epochs": round(asm_steps * asm_config.batch_size / len(dataset), 2),
            "asm_masking": "variable" if asm_config.masking.variable else "fixed",
        }
        if asm_config.objective != "mam":
            trial["asm_objective"] = asm_config.objective
    return trial


def with_asm(plan: SweepPlan, checkpoint: ASMCheckpoint, preset: str) -> SweepPlan:
    """``plan`` with every trial that starts from a model starting from ``checkpoint``; pretrains nothing.

    Where the model's trunk has other sizes than ``preset``, the policies take the model's.

    Raises:
        UserError: no trial starts from a model, or the model is one of another task.
    """
    users = [trial for trial in plan.trials if "asm" in trial]
    if not users:
        raise UserError(f"{checkpoint.path} is of no use here: none of the algorithms starts from a pretrained model.")
    for trial in users:
        check_asm_data(checkpoint, trial["task"], trial["bins"])
    model, usual = read_shape(Path(checkpoint.path)).sizes, get_preset(preset).asm
    differing = {name: getattr(model, name) for name in TRUNK_SIZES if getattr(model, name) != getattr(usual, name)}
    changes: dict[str, Any] = {
        "asm": checkpoint.path,
        "asm_steps": checkpoint.step,
        "asm_epochs": round(checkpoint.epoch, 2),
        "asm_masking": "given",
    }
    trials = tuple(
        {**trial, **changes, **_with_sizes(trial, differing)} if "asm" in trial else trial for trial in plan.trials
    )
    return replace(plan, trials=trials, pretrainings=())


def _with_sizes(trial: Mapping[str, Any], sizes: Mapping[str, Any]) -> dict[str, Any]:
    """The trial's ``network`` with these sizes of the trunk; the sizes that it has of its own, the heads', stay."""
    network = trial.get("network", {})
    return {"network": {**network, "asm": {**network.get("asm", {}), **sizes}}} if sizes else {}
