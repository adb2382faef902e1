"""The RLModule of all methods: policy and critics in one torch module that acts on batches of observations."""

from typing import Any

import torch
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.torch import TorchRLModule

from spin_rl.algorithms.training.agent import build_objective


class OfflineRLModule(TorchRLModule):
    """Returns joint actions under ``Columns.ACTIONS``: greedy in inference, sampled in exploration.

    RLlib's default raises on ``MultiDiscrete`` spaces, so no action distribution is left to it.
    """

    def setup(self) -> None:
        self.objective = build_objective(self.model_config["spec"])

    def _forward_inference(self, batch: dict[str, Any], **_rllib: Any) -> dict[str, Any]:
        return {Columns.ACTIONS: self._act(batch, sample=False)}

    def _forward_exploration(self, batch: dict[str, Any], **_rllib: Any) -> dict[str, Any]:
        return {Columns.ACTIONS: self._act(batch, sample=True)}

    def _forward_train(self, batch: dict[str, Any], **_rllib: Any) -> dict[str, Any]:
        raise NotImplementedError("The learner trains through its agent, never through a forward pass of the module.")

    def _act(self, batch: dict[str, Any], *, sample: bool) -> torch.Tensor:
        objective = self.objective
        observation = batch[Columns.OBS].float()
        was_training = objective.training
        objective.eval()
        with torch.inference_mode():
            shape = (len(observation), objective.draws(sample=sample))
            uniforms = torch.rand(shape, dtype=torch.float64, device=observation.device) if shape[1] else None
            action = objective.decide(observation, uniforms, sample=sample)
        objective.train(was_training)
        return action
