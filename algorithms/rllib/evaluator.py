"""Evaluation beside the training: a Ray actor that evaluates snapshots of the policy.

The actor reserves no CPU, or a sweep whose trials take all of them would wait for ever; its trial leaves it one
(``OfflineConfig.training_threads``). It belongs to the process that made it, and Ray ends it with that process.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import ray
import torch
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from spin_rl.algorithms.evaluation.evaluator import EvaluationRequest, Snapshot, evaluate_objective


class Place(NamedTuple):
    """Where a learner trains: its node, and the GPUs that it sees."""

    node: str
    gpus: str | None

    @classmethod
    def here(cls) -> "Place":
        return cls(ray.get_runtime_context().get_node_id(), os.environ.get("CUDA_VISIBLE_DEVICES"))


@ray.remote(num_cpus=0)
class _Evaluator:
    def evaluate(self, snapshots: Sequence[Snapshot], request: EvaluationRequest) -> list[dict[str, float]]:
        objectives = (snapshot.objective().to(torch.device(request.device)) for snapshot in snapshots)
        return [asdict(evaluate_objective(objective, request)) for objective in objectives]


class Evaluator:
    """One evaluating actor; evaluates one set of snapshots at a time.

    Args:
        place: where the learner is whose CPUs and GPUs it uses.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        environment = {} if place.gpus is None else {"CUDA_VISIBLE_DEVICES": place.gpus}
        self.actor: Any = _Evaluator.options(  # type: ignore[attr-defined]
            scheduling_strategy=NodeAffinitySchedulingStrategy(place.node, soft=False),
            runtime_env={"env_vars": environment} if environment else None,
        ).remote()
        self._pending: Any = None

    def start(self, snapshots: Sequence[Snapshot], request: EvaluationRequest) -> None:
        """Begin to evaluate each snapshot; fetch the results before the next."""
        self._pending = self.actor.evaluate.remote(list(snapshots), request)

    def done(self) -> bool:
        """Whether ``results`` returns at once."""
        ready, _ = ray.wait([self._pending], timeout=0)
        return bool(ready)

    def results(self) -> list[dict[str, float]]:
        """The result of each snapshot (``EvaluationResult`` by name); waits for them.

        Raises:
            RuntimeError: the evaluation failed, or its process is gone.
        """
        pending, self._pending = self._pending, None
        try:
            results: list[dict[str, float]] = ray.get(pending)
        except RayError as error:
            raise RuntimeError(f"The evaluation failed: {error}") from error
        return results

    def close(self) -> None:
        """End the actor, whatever it is doing."""
        ray.kill(self.actor)
