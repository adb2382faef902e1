"""A sweep's results in numbers: what each method reached and what it cost; `texts` has them as text for people."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from spin_rl.platform.reports.groups import Curve, Group, MethodTrials, mean_curve
from spin_rl.platform.reports.statistics import (
    area_under_curve,
    improvement_interval,
    iqm_interval,
    target_return,
    time_to_target,
    value_at,
)
from spin_rl.platform.results.files import SweepResults

BASELINE = "factored"
"""The algorithm that the others are compared with: its final return sets the target of a group."""

_USUAL_OBJECTIVE = "iql"

EARLY = 10_000
"""Policy updates at which methods are compared early."""


def summary(results: SweepResults, sweep_groups: Sequence[Group], evaluated: pd.DataFrame) -> pd.DataFrame:
    """One row for each method of each group; means are over seeds.

    Columns: group, algorithm, objective, label, seeds, failed, state, updates, return_mean (of the last evaluation) and
    score_mean with their standard deviations over seeds (return_seed_std, score_seed_std; ``return_std`` in metrics and
    datasets is over episodes), best_mean (best evaluation of each seed), return_10k, area (mean return over the
    training), target_seconds (until 95 % of the factored policy's final return, see `baselines_of`),
    updates_per_second, and the seconds of pretraining (with the preparation that follows it: features, a student),
    training (both: seconds) and evaluation.
    """
    last = evaluated.groupby("trial_id").last()
    best = evaluated.groupby("trial_id")["return"].max()
    metrics = results.metrics
    times = [f"time/{part}_seconds" for part in ("pretrain", "preparation", "train", "evaluation")]
    end = metrics.reindex(columns=["trial_id", "updates", *times]).groupby("trial_id").last()
    speed = metrics[metrics["updates"] > 0].groupby("trial_id")["perf/updates_per_second"].median()
    rows = []
    for group in sweep_groups:
        curves = {method: mean_curve(evaluated, method) for method in group.methods}
        for method, curve in curves.items():
            target = _target(method, curves)
            ids = list(method.trials)
            final, cost = last.reindex(ids), end.reindex(ids)
            pretrain, preparation, train, evaluation = (cost[name].mean() for name in times)
            pretrain = np.nan_to_num(pretrain) + np.nan_to_num(preparation)
            rows.append(
                {
                    "group": group.title,
                    "algorithm": method.algorithm,
                    "objective": method.objective,
                    "label": method.label,
                    "seeds": int(final["return"].notna().sum()),
                    "failed": method.failed,
                    "state": method.state,
                    "updates": cost["updates"].min(),
                    "return_mean": final["return"].mean(),
                    "return_seed_std": final["return"].std(),
                    "best_mean": best.reindex(ids).mean(),
                    "score_mean": final["score"].mean(),
                    "score_seed_std": final["score"].std(),
                    "return_10k": value_at(curve.updates, curve.mean, EARLY),
                    "area": area_under_curve(curve.updates, curve.mean),
                    "target_seconds": time_to_target(curve.seconds, curve.mean, target),
                    "pretrain_seconds": pretrain,
                    "train_seconds": train,
                    "seconds": pretrain + train,
                    "evaluation_seconds": evaluation,
                    "updates_per_second": speed.reindex(ids).mean(),
                }
            )
    return pd.DataFrame(rows)


def baselines_of(method: MethodTrials, methods: Iterable[MethodTrials]) -> list[MethodTrials]:
    """The factored entries among ``methods`` that a method is compared with.

    They are those with the method's own objective; where there are none, those with IQL, and where there are none
    either, those with the objective of the first. So the numbers of one objective are the same whatever other
    objectives are in the sweep, and a method whose objective the factored policy was not trained with has a target too.
    """
    factored = [other for other in methods if other.algorithm == BASELINE]
    for objective in (method.objective, _USUAL_OBJECTIVE, *(other.objective for other in factored[:1])):
        if found := [other for other in factored if other.objective == objective]:
            return found
    return []


def _target(method: MethodTrials, curves: Mapping[MethodTrials, Curve]) -> float:
    """95 % of the final return of the factored policy in a method's group; NaN where it was not run or evaluated."""
    finals = [curves[baseline].mean[-1] for baseline in baselines_of(method, curves) if len(curves[baseline].mean)]
    return target_return(float(max(finals))) if finals else float("nan")


def baseline_labels(sweep_groups: Sequence[Group]) -> dict[str, str]:
    """By the label of each method the label of its baseline, over all groups; methods without one are left out."""
    methods = {method.label: method for group in sweep_groups for method in group.methods}
    found = {label: baselines_of(method, methods.values()) for label, method in methods.items()}
    return {label: baselines[0].label for label, baselines in found.items() if baselines}


def final_scores(sweep_groups: Sequence[Group], evaluated: pd.DataFrame) -> dict[str, list[np.ndarray]]:
    """Each method's normalised scores: one array (seeds,) a group, over the groups in which every method has any."""
    last = evaluated.groupby("trial_id")["score"].last()
    table = {
        group: {method.label: last.reindex(list(method.trials)).dropna().to_numpy(float) for method in group.methods}
        for group in sweep_groups
    }
    labels = list(dict.fromkeys(label for scores in table.values() for label in scores))
    common = [scores for scores in table.values() if all(len(scores.get(label, ())) for label in labels)]
    return {label: [scores[label] for scores in common] for label in labels} if common else {}


def aggregate(scores: Mapping[str, list[np.ndarray]], baselines: Mapping[str, str]) -> pd.DataFrame:
    """Methods over all groups: interquartile mean of the score, and probability of improvement over the baseline.

    Args:
        scores: of each method by its label, one array (seeds,) a group (`final_scores`).
        baselines: the label of each method's baseline (`baseline_labels`).
    """
    rows = []
    for label, tasks in scores.items():
        middle = iqm_interval(tasks, resamples=1000)
        row = {
            "label": label,
            "tasks": len(tasks),
            "runs": sum(len(task) for task in tasks),
            "mean": float(np.mean([task.mean() for task in tasks])),
            "iqm": middle.value,
            "iqm_low": middle.low,
            "iqm_high": middle.high,
        }
        baseline = baselines.get(label, label)
        if baseline != label:
            chance = improvement_interval(tasks, scores[baseline], resamples=1000)
            row |= {"improvement": chance.value, "improvement_low": chance.low, "improvement_high": chance.high}
        rows.append(row)
    columns = ["improvement", "improvement_low", "improvement_high"]
    table = pd.DataFrame(rows)
    return table.reindex(columns=[*(name for name in table.columns if name not in columns), *columns])
