"""Evaluation of a policy with the critics beside it, and the snapshots that are evaluated away from the training."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor

from spin_rl.algorithms.evaluation.batch_policy import ActingPolicy
from spin_rl.algorithms.objectives import Objective
from spin_rl.algorithms.training.agent import AgentSpec, build_objective
from spin_rl.envs import get_task
from spin_rl.platform.evaluation.episodes import EvaluationResult, evaluate


class EvaluationRequest(NamedTuple):
    """What is evaluated on: whole episodes of a task; ``sample``: actions are sampled, else the best are taken."""

    task: str
    bins: int
    episodes: int
    sample: bool
    device: str = "cpu"


class Snapshot(NamedTuple):
    """Networks as they stood at one update: what they are built from, and their tensors on the CPU by name."""

    spec: AgentSpec
    networks: Mapping[str, Tensor]

    def objective(self) -> Objective:
        """The networks, in evaluation mode; building them leaves torch's random generators as they were."""
        with random_state_kept():
            objective = build_objective(self.spec)
        objective.load_state_dict(dict(self.networks))
        return objective.eval()


def random_state_kept() -> AbstractContextManager[None]:
    """Leaves torch's random generators as they were, on the CPU and on GPUs; building networks seeds all of them."""
    return torch.random.fork_rng(range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ())


def evaluate_objective(objective: Objective, request: EvaluationRequest) -> EvaluationResult:
    """Evaluate a policy with the critics beside it: the same bits in every process.

    With one thread: their number decides how sums are rounded, and a batch of a few observations is too small for more.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        policy = ActingPolicy(objective, torch.device(request.device), sample=request.sample)
        return evaluate(get_task(request.task, request.bins), policy, episodes=request.episodes)
    finally:
        torch.set_num_threads(threads)
