"""Online DecQN (Seyde et al. 2023, arXiv 2210.12566): double Q-learning on decoupled utilities.

Huber loss, a decomposed target that averages over sub-actions, and a Polyak-averaged target network.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from spin_rl.envs.behaviour.learner import polyak, strip_prefix
from spin_rl.envs.behaviour.settings import BehaviourSettings
from spin_rl.optimizer_state import load_optimizer_tensors, optimizer_tensors


class DecQN:
    """Learns utilities; each sub-action takes the choice with the largest one."""

    def __init__(
        self, observation_size: int, nvec: Sequence[int], settings: BehaviourSettings, device: torch.device
    ) -> None:
        self._settings, self._device = settings, device
        self.network = settings.architecture.network(observation_size, nvec).to(device)
        self.target = settings.architecture.network(observation_size, nvec).to(device)
        self.target.load_state_dict(self.network.state_dict())
        self.optimizer = torch.optim.Adam(self.network.parameters(), settings.learning_rate, fused=True)

    def initialize_from(self, tensors: Mapping[str, Tensor]) -> None:
        """Initialise the network and the target network alike."""
        for network in (self.network, self.target):
            network.load_state_dict(strip_prefix(tensors, "network."))

    def begin_round(self, learning_rate: float, seed: int) -> None:
        """Set the learning rate; updates draw no random numbers."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate

    def track(self, observations: Tensor, batches: int) -> None:
        """Keep the scaling of both networks the same."""
        for network in (self.network, self.target):
            network.track(observations, batches)

    def update(
        self, observation: Tensor, action: Tensor, returns: Tensor, discount: Tensor, next_observation: Tensor
    ) -> Tensor:
        """One step on Huber(mean_i U_i(s, a_i) - (G_n + gamma^n mean_i U'_i(s_n, argmax_c U_i(s_n, c)))).

        Returns:
            The loss, a scalar.
        """
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._settings.bfloat16):
            with torch.no_grad():
                best = self.network(next_observation).argmax(-1, keepdim=True)  # (B, N, 1)
                value = _values(self.target(next_observation), best)
            predicted = _values(self.network(observation), action[..., None])
        loss = smooth_l1_loss(predicted, returns + discount * value)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        polyak(self.target, self.network, self._settings.target_rate)
        return loss.detach()

    def measures(self) -> dict[str, float]:
        """None."""
        return {}

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a checkpoint needs."""
        tensors = {f"network.{key}": value for key, value in self.network.state_dict().items()}
        tensors |= {f"target.{key}": value for key, value in self.target.state_dict().items()}
        return tensors | optimizer_tensors(self.optimizer, "optimizer.")

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what ``tensors`` returned."""
        for prefix, module in (("network.", self.network), ("target.", self.target)):
            module.load_state_dict(strip_prefix(tensors, prefix))
        load_optimizer_tensors(self.optimizer, tensors, "optimizer.")


def _values(utilities: Tensor, action: Tensor) -> Tensor:
    """Values (B,) of actions (B, N, 1) under utilities (B, N, C)."""
    return utilities.gather(-1, action).mean((1, 2))
