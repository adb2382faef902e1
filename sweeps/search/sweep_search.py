"""The search of a sweep's plan: one study for each problem, in turn, and the scheduler of their trials.

A problem is what results are comparable within (`planning.search`). Parameters are searched by their index in the list
of values.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from optuna.distributions import IntDistribution
from ray.tune.experiment import Trial
from ray.tune.search import SearchAlgorithm

from spin_rl.algorithms.settings import split_dataset_path
from spin_rl.platform.asm_store.store import asm_root
from spin_rl.sweeps.planning.builder import PlanBuilder
from spin_rl.sweeps.planning.plan import SweepPlan
from spin_rl.sweeps.running.completion import write_search_record
from spin_rl.sweeps.running.engine import run_trials
from spin_rl.sweeps.running.opening import open_sweep
from spin_rl.sweeps.running.resources import TrialResources
from spin_rl.sweeps.search.schedule import PointASHA
from spin_rl.sweeps.search.studies import study_url
from spin_rl.sweeps.search.study_search import StudySearch
from spin_rl.sweeps.search.study_spec import StudySpec


class SweepSearch(SearchAlgorithm):
    """Tune's ``search_alg`` for a plan that searches: draws from its studies in turn.

    Args:
        plan: what to search.
        folder: the sweep's folder.
        study_storage: address of the studies' database; a SQLite file in the sweep's storage by default.
        at_once: trials that run at the same time. With more than one the points depend on the order in which results
            come; the results of each point do not.
    """

    def __init__(self, plan: SweepPlan, folder: Path, *, study_storage: str | None = None, at_once: int = 1) -> None:
        self.plan, self.folder, self._at_once = plan, folder, at_once
        self._stack = ExitStack()
        url = study_url(study_storage, folder.parent)
        self._studies = [
            StudySearch(
                _study_spec(plan, problem, folder),
                name=plan.name,
                settings={"problem": problem, "seeds": plan.search["seeds"]},
                folder=folder,
                url=url,
                at_once=at_once,
            )
            for problem in plan.search["problems"]
        ]
        self._turn = 0

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its configuration

    def __enter__(self) -> "SweepSearch":
        with ExitStack() as stack:
            for study in self._studies:
                stack.enter_context(study)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()
        complete = {study.study_name: study.spec.points for study in self._studies if study.ended}
        write_search_record(self.folder, self._studies[0].place, complete)

    @property
    def complete(self) -> bool:
        """Whether every point of every problem has been tried to its end."""
        return all(study.complete for study in self._studies)

    @property
    def total_samples(self) -> int:
        return sum(study.total_samples for study in self._studies)

    def add_configurations(self, experiments: Any) -> None:
        for study in self._studies:
            study.add_configurations(experiments)

    def next_trial(self) -> Trial | None:
        if sum(study.running for study in self._studies) >= self._at_once:
            return None
        for _ in self._studies:
            study = self._studies[self._turn]
            self._turn = (self._turn + 1) % len(self._studies)
            if (trial := study.next_trial()) is not None:
                return trial
        return None

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        for study in self._studies:
            study.on_trial_complete(trial_id, result, error)

    def is_finished(self) -> bool:
        return bool(self._finished) or all(study.is_finished() for study in self._studies)


def run_search(
    plan: SweepPlan,
    storage: Path,
    *,
    tracking_uri: str,
    study_storage: str | None = None,
    resources: TrialResources | None = None,
) -> Path:
    """Run the search of ``plan`` to its end, or resume it; returns the sweep's folder. Ray must be up.

    Args:
        plan: what to search.
        storage: where results are stored.
        tracking_uri: MLflow's store.
        study_storage: address of the studies' database; a SQLite file in the storage by default.
        resources: of each trial; one CPU by default.

    Raises:
        UserError: the folder holds a sweep with other settings, no node has room for a trial, another process runs the
            search, or the database does not answer.
    """
    folder, resources = open_sweep(plan, storage), resources or TrialResources()
    with SweepSearch(plan, folder, study_storage=study_storage, at_once=resources.at_once()) as search:
        if not search.complete:
            updates = int(plan.trials[0]["updates"])
            run_trials(
                plan,
                folder,
                search,
                coming=[("", updates)] * search.total_samples,  # their kinds are not known before they are drawn
                tracking_uri=tracking_uri,
                resources=resources,
                scheduler=scheduler_of(plan, folder),
            )
    return folder


def scheduler_of(plan: SweepPlan, folder: Path) -> PointASHA | None:
    """The scheduler that ends trials early, if the plan has one; its first rung is a fifth of a trial's evaluations."""
    if plan.search["scheduler"] == "none":
        return None
    trial = plan.trials[0]
    interval, updates = int(trial["evaluate_every"]), int(trial["updates"])
    return PointASHA(folder, first_rung=interval * max(1, updates // interval // 5), most=updates)


def _study_spec(plan: SweepPlan, problem: Mapping[str, Any], folder: Path) -> StudySpec:
    parameters: Mapping[str, Sequence[Any]] = plan.search["parameters"]
    root, _, _ = split_dataset_path(plan.trials[0]["dataset"])
    builder = PlanBuilder(root, asm_root(folder.parent))

    def make_trials(indices: Mapping[str, int]) -> list[dict[str, Any]]:
        point = {**problem, **{name: parameters[name][index] for name, index in indices.items()}}
        return [builder.trial({**point, "seed": seed}) for seed in plan.search["seeds"]]

    usual = {name: parameters[name].index(plan.space[name][0]) for name in parameters}
    steps = "asm_steps" if "asm_steps" in parameters else "clone_steps"
    longest = len(parameters.get(steps, ())) - 1
    first = [{**usual, steps: index} for index in (0, longest, longest // 2)] if longest > 0 else [usual]
    return StudySpec(
        space={name: IntDistribution(0, len(values) - 1) for name, values in parameters.items()},
        make_trials=make_trials,
        points=plan.search["points"],
        first=tuple(first),
        seed=plan.search["seed"],
        seeds=len(plan.search["seeds"]),
        values=parameters,
    )
