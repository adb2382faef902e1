"""Statistics of returns over seeds and tasks (Agarwal et al. 2021, arXiv 2108.13264), and the cost of a target.

Scores of a method are one array (seeds,) for each task; tasks may have different numbers of seeds. Why not `rliable`,
the authors' package: the seed of its bootstrap has no effect, and it needs equally many runs of every task, which a
sweep with a failed trial does not have.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]
Scores = Sequence[ArrayLike]
"""One array (seeds,) for each task."""

TARGET_SHARE = 0.95
"""Share of the factored policy's final return that counts as reaching it."""


class Interval(NamedTuple):
    """An estimate and the bounds of its confidence interval."""

    value: float
    low: float
    high: float


def iqm(scores: ArrayLike) -> float:
    """Interquartile mean: the mean of the middle half of all scores, (runs,)."""
    return float(stats.trim_mean(np.asarray(scores, float), 0.25, axis=None))


def stratified_bootstrap(
    samples: Sequence[Scores],
    statistic: Callable[..., float],
    *,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a statistic under resampling of seeds within each task.

    Args:
        samples: the scores of each method that the statistic takes.
        statistic: a function of one list of arrays (one for each task) for each method.
        resamples: bootstrap resamples.
        confidence: coverage of the interval.
        seed: the same seed gives the same interval.
    """
    arrays = [[np.asarray(task, float) for task in scores] for scores in samples]
    generator = np.random.default_rng(seed)
    values = np.empty(resamples)
    for index in range(resamples):
        drawn = [[task[generator.integers(len(task), size=len(task))] for task in scores] for scores in arrays]
        values[index] = statistic(*drawn)
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(statistic(*arrays), float(low), float(high))


def iqm_interval(scores: Scores, **settings: int) -> Interval:
    """Interquartile mean over all runs of all tasks, with its interval."""
    return stratified_bootstrap([scores], lambda tasks: iqm(np.concatenate(tasks)), **settings)


def probability_of_improvement(ours: Scores, theirs: Scores) -> float:
    """Probability that a run of ours beats one of theirs on the same task, ties counting half; mean over tasks."""
    chances = []
    for x, y in zip(ours, theirs, strict=True):
        difference = np.asarray(x, float)[:, None] - np.asarray(y, float)  # (seeds of ours, seeds of theirs)
        chances.append(float(np.mean((difference > 0) + 0.5 * (difference == 0))))
    return float(np.mean(chances))


def improvement_interval(ours: Scores, theirs: Scores, **settings: int) -> Interval:
    """Probability of improvement with its interval."""
    return stratified_bootstrap([ours, theirs], probability_of_improvement, **settings)


def performance_profile(scores: Scores, thresholds: ArrayLike) -> Floats:
    """Share of runs whose score is above each threshold (T,); every task weighs the same."""
    limits = np.asarray(thresholds, float)
    shares = [(np.asarray(task, float)[:, None] > limits).mean(0) for task in scores]  # each (seeds, T) -> (T,)
    return np.mean(shares, axis=0)


def profile_band(
    scores: Scores, thresholds: ArrayLike, *, resamples: int = 500, confidence: float = 0.95, seed: int = 0
) -> tuple[Floats, Floats]:
    """Pointwise confidence band of the performance profile, two arrays (T,)."""
    arrays = [np.asarray(task, float) for task in scores]
    generator = np.random.default_rng(seed)
    profiles = np.stack(
        [
            performance_profile([task[generator.integers(len(task), size=len(task))] for task in arrays], thresholds)
            for _ in range(resamples)
        ]
    )
    low, high = np.quantile(profiles, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return low, high


def area_under_curve(x: ArrayLike, values: ArrayLike) -> float:
    """Mean height of a curve over the range of ``x``, by trapezoids; the value itself where there is only one."""
    at, heights = np.asarray(x, float), np.asarray(values, float)
    if len(at) < 2 or at[-1] == at[0]:
        return float(heights[-1]) if len(heights) else float("nan")
    return float(np.trapezoid(heights, at) / (at[-1] - at[0]))


def value_at(x: ArrayLike, values: ArrayLike, at: float) -> float:
    """A curve's value at ``at``, interpolated between evaluations; NaN beyond its end."""
    if not np.size(values):
        return float("nan")
    return float(np.interp(at, np.asarray(x, float), np.asarray(values, float), left=np.nan, right=np.nan))


def target_return(factored_final: float) -> float:
    """95 % of the factored policy's final return (a twentieth below it where returns are negative)."""
    return factored_final - (1 - TARGET_SHARE) * abs(factored_final)


def time_to_target(seconds: ArrayLike, values: ArrayLike, target: float) -> float:
    """When a curve first reaches ``target``, interpolated linearly between evaluations; NaN if it never does.

    Args:
        seconds: clock at each evaluation, pretraining included.
        values: return at each evaluation.
        target: return to reach.
    """
    clock, heights = np.asarray(seconds, float), np.asarray(values, float)
    reached = np.flatnonzero(heights >= target)
    if not len(reached):
        return float("nan")
    first = int(reached[0])
    if first == 0:
        return float(clock[0])
    share = (target - heights[first - 1]) / (heights[first] - heights[first - 1])
    return float(clock[first - 1] + share * (clock[first] - clock[first - 1]))
