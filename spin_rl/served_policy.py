"""The code of a logged policy: MLflow runs this file where the model is loaded, beside a copy of the package."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

from spin_rl.algorithms.evaluation.batch_policy import ActingPolicy
from spin_rl.algorithms.training.checkpoints import load_objective


class PolicyModel(PythonModel):
    """Joint actions (B, N) for observations (B, S).

    Parameters of a request: ``greedy`` (the best action; otherwise sampled) and ``seed`` (of the sampling; below 0
    every request draws anew).
    """

    def load_context(self, context: Any) -> None:
        self._objective = load_objective(Path(context.artifacts["policy"]))

    # MLflow would take a type hint of the input for the signature, which is logged with the model.
    def predict(self, context: Any, model_input, params: dict[str, Any] | None = None) -> Any:  # type: ignore[no-untyped-def]  # noqa: ARG002
        settings = params or {}
        observation = np.atleast_2d(np.asarray(model_input, np.float32))
        policy = ActingPolicy(self._objective, torch.device("cpu"), sample=not settings.get("greedy", False))
        seed = int(settings.get("seed", -1))
        generator = np.random.default_rng(seed if seed >= 0 else None)
        return policy.act(observation, generator.random((len(observation), policy.draws)))


set_model(PolicyModel())
