"""Evaluation of policies: whole seeded episodes in batches, with normalised scores."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spin_rl.envs import BatchPolicy, Task, rollout


@dataclass(frozen=True)
class EvaluationResult:
    """Statistics of the returns of ``episodes`` episodes."""

    return_mean: float
    return_std: float  # sample standard deviation over the episodes
    normalized_score: float  # of the mean
    episodes: int


EVALUATION_SEED = 1_000_003
"""Seed of the episodes' initial states and draws: every method and every seed is evaluated on the same episodes."""


def evaluate(
    task: Task, policy: BatchPolicy, *, episodes: int = 10, seed: int = EVALUATION_SEED, batch: int = 10
) -> EvaluationResult:
    """Run ``episodes`` whole episodes; the result is a function of (task, policy, episodes, seed, batch)."""
    return summarize(rollout(task.make, policy, episodes=episodes, seed=seed, batch=batch).returns, task)


def summarize(returns: Sequence[float] | NDArray[np.float64], task: Task) -> EvaluationResult:
    """The result for episodes with these returns (episodes,)."""
    values = np.asarray(returns, np.float64)
    mean = float(values.mean())
    return EvaluationResult(
        return_mean=mean,
        return_std=float(values.std(ddof=1)) if len(values) > 1 else 0.0,
        normalized_score=task.reference.normalize(mean),
        episodes=len(values),
    )
