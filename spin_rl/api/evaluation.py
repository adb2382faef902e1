"""Evaluation of trained policies from their last checkpoints."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from spin_rl.algorithms.evaluation.batch_policy import ActingPolicy
from spin_rl.algorithms.training.checkpoints import load_objective
from spin_rl.api.running import SweepRun
from spin_rl.envs import get_task
from spin_rl.platform.evaluation.episodes import EvaluationResult
from spin_rl.platform.evaluation.episodes import evaluate as run_episodes
from spin_rl.platform.results.files import storage_root
from spin_rl.sweeps.running.trained_policies import TrainedPolicy, find_policies


@dataclass(frozen=True)
class TrialEvaluation:
    """A trained trial, and its returns over whole episodes."""

    trial: TrainedPolicy
    result: EvaluationResult


def evaluate(
    run: str | Path | SweepRun,
    episodes: int = 20,
    *,
    seed: int = 0,
    greedy: bool | None = None,
    storage: str | Path | None = None,
    on_trial: Callable[[int, int], None] | None = None,
) -> list[TrialEvaluation]:
    """Evaluate trained policies from their last checkpoints, on the CPU of this process.

    Example: ``[one.result.normalized_score for one in evaluate("quickstart", episodes=50)]``

    Args:
        run: a sweep or training (what `train` gave, a name or a folder), one trial (``NAME/ID``), or a checkpoint.
        episodes: whole episodes of each policy, positive.
        seed: of the episodes' starts and draws, non-negative; equal seeds give equal episodes to all policies.
        greedy: take the best actions, or sample them; by default what the paper did with the objective.
        storage: where results lie.
        on_trial: called with the number of trials evaluated and of all, before each.

    Returns:
        One evaluation per trial: mean and standard deviation of the return over episodes, and the normalised score.

    Raises:
        UserError: there is no such run or trial, or it has no checkpoint yet.
    """
    named = str(run.folder) if isinstance(run, SweepRun) else str(run)
    trials = find_policies(named, storage_root(storage))
    found = []
    for number, trial in enumerate(trials):
        if on_trial:
            on_trial(number, len(trials))
        objective = load_objective(trial.checkpoint)
        sample = objective.sampled if greedy is None else not greedy
        policy = ActingPolicy(objective, torch.device("cpu"), sample=sample)
        result = run_episodes(get_task(trial.task, trial.bins), policy, episodes=episodes, seed=seed)
        found.append(TrialEvaluation(trial, result))
    return found
