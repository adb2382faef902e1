"""What defines a sweep: its space as data, its small size for tests, its analysis; and the plan that comes of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spin_rl.algorithms.asm.masking import Masking
from spin_rl.algorithms.asm.model import TRUNK_SIZES
from spin_rl.algorithms.asm.pretraining import ASMConfig
from spin_rl.algorithms.methods import get_method
from spin_rl.algorithms.presets import get_preset
from spin_rl.algorithms.settings import FREE_SETTINGS, NETWORK_SETTINGS, check_trial
from spin_rl.errors import UserError
from spin_rl.platform.asm_store.store import ASMStore
from spin_rl.platform.common.identity import identity_key
from spin_rl.platform.datasets import OfflineDataset, open_dataset
from spin_rl.sweeps.planning.plan import PretrainingPlan, SweepPlan, dataset_path, evaluation_interval, make_trial
from spin_rl.sweeps.planning.space import SIZES, Point, Space, check_space, points

if TYPE_CHECKING:
    from spin_rl.platform.reports.sections import Analysis

TINY: Space = {
    "seed": (0,),
    "preset": ("tiny",),
    "updates": (4,),
    "evaluations": (2,),
    "episodes": (1,),
}
"""What the tiny sizes of our sweeps share: seconds on two cores."""


@dataclass(frozen=True)
class Sweep:
    """An experiment. A file of a user's own defines one as ``SWEEP``; ``spin-rl sweep FILE`` runs it.

    Attributes:
        name: what its results are called, unless a name is given.
        description: what it asks, as a sentence.
        space: every parameter with its values (`space.PARAMETERS`); trials are their product.
        tiny: values for a run in seconds, on a tiny dataset.
        one_at_a_time: sizes that are not combined: each takes its values while the others stand at the preset's.
        analysis: the report's own part: takes the sweep's results, gives sections.
        plan_with: makes the plan of a resolved space, where trials are not the product of the space.
    """

    name: str
    description: str
    space: Space
    tiny: Space = field(default_factory=dict)
    one_at_a_time: tuple[str, ...] = ()
    analysis: "Analysis | None" = None
    plan_with: "Callable[[Sweep, Space, str, Path], SweepPlan] | None" = None

    def resolve(self, changes: Space, *, tiny: bool = False) -> Space:
        """The space with these changes, which go before those of the tiny size.

        Raises:
            UserError: a parameter that there is not, or one without values.
        """
        space = {**self.space, **(self.tiny if tiny else {}), **changes}
        if "asm_epochs" in changes:
            space.pop("asm_steps", None)
        check_space(space)
        return space

    def plan(self, space: Space, root: str, asm_root: Path) -> SweepPlan:
        """The trials of a resolved space over the datasets below ``root``, and what has to be pretrained for them.

        Raises:
            UserError: a dataset is not there, settings do not fit each other, or nothing takes one of them.
        """
        if self.plan_with is not None:
            return self.plan_with(self, space, root, asm_root)
        return grid_plan(self, space, root, asm_root)


def grid_plan(sweep: Sweep, space: Space, root: str, asm_root: Path) -> SweepPlan:
    """A plan with a trial for every point of ``space``."""
    planner = TrialPlanner(root, asm_root)
    seen = list(points(space, sweep.one_at_a_time))
    trials = [planner.trial(point) for point in seen]
    for name, values in space.items():
        if len(values) > 1 and not any(name in point for point in seen):
            raise UserError(f"No trial takes {name}: none of the algorithms and objectives of this sweep uses it.")
    return plan_of(sweep, space, trials, planner)


def plan_of(
    sweep: Sweep,
    space: Space,
    trials: Sequence[Mapping[str, Any]],
    planner: "TrialPlanner",
    search: Mapping[str, Any] | None = None,
) -> SweepPlan:
    """The plan of trials that ``planner`` made; it has the sweep's own name only where the space is the sweep's own.

    Args:
        sweep: what they are trials of.
        space: its resolved space.
        trials: what it runs, or what a search draws from.
        planner: knows the models that they need.
        search: what is drawn from the space, where it is not run whole.
    """
    plan = SweepPlan(
        name=sweep.name,
        description=f"{sweep.description} {describe(space)}",
        trials=tuple(trials),
        pretrainings=planner.pretrainings(),
        space=dict(space),
        search=search or {},
    )
    if space == sweep.space:
        return plan
    drawn = {"parameters": search["parameters"]} if search else {}
    return plan.named(f"{sweep.name}-{identity_key({'trials': plan.trials, **drawn})[:6]}")


def describe(space: Space) -> str:
    """What a space holds, as a sentence."""

    def listed(name: str) -> str:
        return ", ".join(map(str, space[name]))

    several = [
        f"{name} {listed(name)}"
        for name in space
        if name not in ("task", "bins", "level", "version", "algorithm", "objective", "seed", "preset")
    ]
    return (
        f"{listed('algorithm')} with {listed('objective')} on {listed('task')} ({listed('level')}), preset "
        f"{listed('preset')}, seeds {listed('seed')}; {', '.join(several)}."
    )


class TrialPlanner:
    """Turns points into trials, and remembers which models they need.

    Args:
        root: where datasets lie.
        asm_root: where action structure models lie.
    """

    def __init__(self, root: str, asm_root: Path) -> None:
        self.root, self._store = root, ASMStore(asm_root)
        self._datasets: dict[tuple[Any, ...], OfflineDataset] = {}
        self._models: dict[tuple[str, ASMConfig], set[int]] = {}

    def dataset(self, point: Mapping[str, Any]) -> OfflineDataset:
        """The dataset of a point, opened once."""
        key = (point["task"], point["bins"], point["level"], point.get("version"))
        if key not in self._datasets:
            task, bins, level, version = key
            self._datasets[key] = open_dataset(task, level, bins=bins, root=self.root, version=version)
        return self._datasets[key]

    def trial(self, point: Point) -> dict[str, Any]:
        """The trial of a point.

        Raises:
            UserError: settings do not fit each other.
        """
        dataset, config = self.dataset(point), asm_config(point)
        interval = evaluation_interval(point["updates"], point["evaluations"])
        sizes = {name: point[name] for name in SIZES if name in point}
        settings = {name: point[name] for name in (*FREE_SETTINGS, *NETWORK_SETTINGS) if name in point}
        if sizes:
            network = settings.pop("network", {})
            settings |= {**sizes, "network": {**network, "asm": {**network.get("asm", {}), **sizes}}}
        if "asm_precision" in point:
            settings["asm_precision"] = point["asm_precision"]
        steps = _steps(point, dataset, config)
        trial = make_trial(
            algorithm=point["algorithm"],
            objective=point["objective"],
            root=self.root,
            dataset=dataset,
            seed=point["seed"],
            store=self._store,
            asm_config=config,
            asm_steps=steps,
            preset=point["preset"],
            updates=point["updates"],
            evaluate_every=interval,
            updates_per_iteration=_iteration(interval),
            evaluation_episodes=point["episodes"],
            **settings,
        )
        check_trial(trial)
        if get_method(point["algorithm"]).uses_asm:
            self._models.setdefault((dataset_path(self.root, dataset), config), set()).add(steps)
        return trial

    def pretrainings(self) -> tuple[PretrainingPlan, ...]:
        """What the trials made so far start from."""
        return tuple(
            PretrainingPlan(path, config, tuple(sorted(steps))) for (path, config), steps in self._models.items()
        )


def asm_config(point: Mapping[str, Any]) -> ASMConfig:
    """The pretraining that a point's model comes from; the width of its heads, which no policy takes over, is fixed."""
    preset = get_preset(point["preset"])
    sizes = replace(preset.asm, **{name: point[name] for name in TRUNK_SIZES if name in point})
    if sizes.width % sizes.heads:
        raise UserError(f"The width ({sizes.width}) must be a multiple of the number of heads ({sizes.heads}).")
    return ASMConfig(
        sizes=sizes,
        objective=point.get("asm_objective", "mam"),
        masking=Masking(variable=point["asm_masking"] == "variable") if "asm_masking" in point else preset.masking,
        precision=point.get("asm_precision", preset.asm_precision),
        seed=point["seed"],
    )


def _steps(point: Mapping[str, Any], dataset: OfflineDataset, config: ASMConfig) -> int:
    if "asm_epochs" in point:
        return int(point["asm_epochs"]) * -(-len(dataset) // config.batch_size)
    if get_method(point["algorithm"]).uses_asm and "asm_steps" not in point:
        raise UserError(f"{point['algorithm']} needs asm_steps or asm_epochs: give one with --set asm_steps=1000.")
    return int(point.get("asm_steps", 0))


def _iteration(interval: int, most: int = 1000) -> int:
    """Updates between checkpoints: at most about a thousand, so many times over that an evaluation follows them."""
    least = -(-interval // most)
    return next((interval // parts for parts in range(least, 4 * least) if interval % parts == 0), interval)
