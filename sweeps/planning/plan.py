"""A sweep's plan: flat trials over datasets that exist, the models to pretrain for them, and the file that keeps it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from spin_rl.algorithms.asm.masking import Masking
from spin_rl.algorithms.asm.model import ASMSizes
from spin_rl.algorithms.asm.pretraining import ASMConfig
from spin_rl.algorithms.cloning.cloning import CloneConfig
from spin_rl.algorithms.presets import Preset
from spin_rl.algorithms.pretraining.base import PretrainingConfig
from spin_rl.errors import UserError
from spin_rl.platform.common.json_files import read_json, write_json
from spin_rl.sweeps.planning.identity import name_suffix, plan_digest, trial_ids


@dataclass(frozen=True)
class PretrainingPlan:
    """A model that trials start from, of whichever kind, and the steps whose checkpoints they need."""

    dataset: str  # folder of the dataset
    config: PretrainingConfig
    steps: tuple[int, ...]


@dataclass(frozen=True)
class SweepPlan:
    """Everything that a sweep will run.

    Attributes:
        name: the sweep's name.
        description: a sentence for its report.
        trials: flat dictionaries: settings of ``OfflineConfig`` by name, ``updates`` (the budget) and descriptions. Of
            a search, the trials whose models have to be pretrained.
        pretrainings: the models that trials start from.
        space: the parameters that vary, with their values.
        sweep: name or file of the `Sweep` that this is a plan of.
        search: what is searched over and how; empty where every trial is run.
    """

    name: str
    description: str
    trials: tuple[Mapping[str, Any], ...]
    pretrainings: tuple[PretrainingPlan, ...] = ()
    space: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    sweep: str = ""
    search: Mapping[str, Any] = field(default_factory=dict)

    def by_id(self) -> dict[str, Mapping[str, Any]]:
        """The trials by their ids, which are a function of the plan."""
        return dict(zip(trial_ids(self.trials), self.trials, strict=True))

    def summary(self) -> dict[str, Any]:
        """The settings that all trials share, the number of trials, and the plan's digest."""
        first, *others = self.trials
        shared = {name: value for name, value in first.items() if all(trial.get(name) == value for trial in others)}
        return {**shared, "trials": len(self.trials), "plan": plan_digest(self.trials, self.search)}

    def named(self, name: str) -> "SweepPlan":
        """The same plan under another name."""
        return replace(self, name=name)

    def named_by_content(self, stem: str) -> "SweepPlan":
        """The same plan under a name that no other plan of this ``stem`` has."""
        return self.named(f"{stem}-{name_suffix(self.trials, self.search)}")


def write_plan(folder: Path, plan: SweepPlan) -> None:
    """Keep ``plan`` in a sweep's folder, so that the sweep can be resumed by its name alone."""
    write_json(folder / _PLAN, asdict(plan))


def read_plan(folder: Path) -> SweepPlan | None:
    """The plan that ``write_plan`` kept in ``folder``; None if there is none.

    Raises:
        UserError: the file cannot be read.
    """
    if not (folder / _PLAN).is_file():
        return None
    record = read_json(folder / _PLAN)
    try:
        pretrainings = [
            PretrainingPlan(item["dataset"], _config(item["config"]), tuple(item["steps"]))
            for item in record["pretrainings"]
        ]
        space = {name: tuple(values) for name, values in record["space"].items()}
        return SweepPlan(
            **{**record, "trials": tuple(record["trials"]), "pretrainings": tuple(pretrainings), "space": space}
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / _PLAN} holds no plan ({error!r}); give the whole command again.") from error


_PLAN = "plan.json"


def _config(record: Mapping[str, Any]) -> PretrainingConfig:
    if "network" in record:
        preset = record["preset"]
        nested = {"asm": ASMSizes(**preset["asm"]), "masking": Masking(**preset["masking"])}
        return CloneConfig(**{**record, "preset": Preset(**{**preset, **nested})})
    return _asm_config(record)


def _asm_config(record: Mapping[str, Any]) -> ASMConfig:
    nested = {"sizes": ASMSizes(**record["sizes"]), "masking": Masking(**record["masking"])}
    return ASMConfig(**{**record, **nested})
