"""Evaluation on RLlib's env runners: each plays its part of the episodes, one environment at a time."""

from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.env.env_runner_group import EnvRunnerGroup

from spin_rl.platform.evaluation.episodes import EVALUATION_SEED, summarize


def evaluate_on_env_runners(group: EnvRunnerGroup, learners: LearnerGroup, config: Any) -> dict[str, float]:
    """Evaluate the policy as it stands; a function of it, the number of runners and the number of episodes.

    Args:
        group: the runners; all of them are remote.
        learners: the first one's networks are evaluated.
        config: an ``OfflineConfig``.

    Raises:
        RuntimeError: a runner is gone.
    """
    group.sync_weights(from_worker_or_learner_group=learners, inference_only=True)
    runners = config.evaluation_num_env_runners
    play = partial(_play, runners=runners, episodes=config.evaluation_episodes, sample=config.samples_in_evaluation)
    parts = group.foreach_env_runner(play, local_env_runner=False)
    if len(parts) < runners:
        raise RuntimeError(f"{runners - len(parts)} of {runners} evaluation env runners are gone.")
    returns = [value for part in parts for value in part]
    return asdict(summarize(returns, config.task()))


def _play(runner: Any, *, runners: int, episodes: int, sample: bool) -> list[float]:
    """Returns of one runner's part of the episodes."""
    index = runner.worker_index - 1
    count = episodes * (index + 1) // runners - episodes * index // runners
    # every evaluation begins with the same starts and draws, whatever has been played before
    runner._seed = EVALUATION_SEED + index
    torch.manual_seed(EVALUATION_SEED + index)
    return [episode.get_return() for episode in runner.sample(num_episodes=count, explore=sample)]
