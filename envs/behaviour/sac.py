"""Online soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905) with a factored policy and a joint critic.

DecQN's value of a joint action is a mean of utilities, and each utility is learnt under the noise of all other
sub-actions: with many sub-actions, that noise hides the contribution of a single one. Here the critic sees the whole
joint action, each sub-action as a level: the position of its choice between the first (-1) and the last (1). The
critic's gradient is the contribution of each sub-action given all others, and the policy ascends it through
straight-through Gumbel-softmax samples (Jang et al. 2017, arXiv 1611.01144). Layer normalisation keeps the critic from
overestimating without bound (Nauman et al. 2024, arXiv 2403.00514).

Shapes: K critics, B batch, S observation size, N sub-actions, C choices.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from spin_rl.envs.behaviour.learner import polyak, strip_prefix
from spin_rl.envs.behaviour.settings import BehaviourSettings
from spin_rl.optimizer_state import load_optimizer_tensors, optimizer_tensors

_ACTOR_EVERY = 2
"""Critic updates per policy update (Fujimoto et al. 2018, arXiv 1802.09477)."""

_TEMPERATURE, _TEMPERATURE_RATE = 0.01, 1e-3
"""Initial temperature, for rewards of at most 1 per step, and the learning rate of its logarithm."""

_LEAST_UNIFORM = 1e-12
"""Smallest uniform random number used, so that its logarithm is finite."""

_NEARLY_UNIFORM = 0.1
"""Factor on the initial weights of the policy's last layer, so that it starts out nearly uniform."""


class JointCritic(nn.Module):
    """K networks that map scaled observations (B, S) and levels (B, N) to values (K, B)."""

    def __init__(self, observation_size: int, sub_actions: int, width: int, members: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(
            nn.Sequential(
                nn.Linear(observation_size + sub_actions, width),
                nn.LayerNorm(width),
                nn.ReLU(),
                nn.Linear(width, width),
                nn.LayerNorm(width),
                nn.ReLU(),
                nn.Linear(width, 1),
            )
            for _ in range(members)
        )

    def forward(self, scaled: Tensor, levels: Tensor) -> Tensor:
        return torch.stack([member(torch.cat((scaled, levels), -1)).squeeze(-1) for member in self.members]).float()


class FactoredSAC:
    """Learns logits from which every sub-action's choice is sampled; without exploration it takes the largest one."""

    def __init__(
        self, observation_size: int, nvec: Sequence[int], settings: BehaviourSettings, device: torch.device
    ) -> None:
        self._settings, self._device = settings, device
        self.network = settings.architecture.network(observation_size, nvec).to(device)
        with torch.no_grad():
            self.network.body[-1].weight.mul_(_NEARLY_UNIFORM)  # type: ignore[operator]
        shape = (observation_size, len(nvec), settings.width, settings.critics)
        self.critic, self.target = JointCritic(*shape).to(device), JointCritic(*shape).to(device)
        self.target.load_state_dict(self.critic.state_dict())
        self.log_temperature = torch.tensor(math.log(_TEMPERATURE), device=device, requires_grad=True)
        self._levels = levels_of(nvec).to(device)
        self._target_entropy = settings.entropy * sum(math.log(choices) for choices in nvec)  # in nats
        self._optimizers = {
            "actor": torch.optim.Adam(self.network.parameters(), settings.learning_rate, fused=True),
            "critic": torch.optim.Adam(self.critic.parameters(), settings.learning_rate, fused=True),
            "temperature": torch.optim.Adam([self.log_temperature], _TEMPERATURE_RATE),
        }
        self._generator = torch.Generator(device)
        self._updates = 0  # in this round
        self._policy_entropy: Tensor | None = None  # mean in the last policy update, in nats

    def initialize_from(self, tensors: Mapping[str, Tensor]) -> None:
        """Initialise the policy, and critics and temperature if given: a snapshot holds the policy alone.

        A critic sees levels, so it fits any number of choices.
        """
        self.network.load_state_dict(strip_prefix(tensors, "network."))
        if critic := strip_prefix(tensors, "critic."):
            self.critic.load_state_dict(critic)
            self.target.load_state_dict(critic)
            self._load_temperature(tensors)

    def begin_round(self, learning_rate: float, seed: int) -> None:
        """Set the learning rate and the seed of the random numbers that the round's updates draw."""
        for name in ("actor", "critic"):
            for group in self._optimizers[name].param_groups:
                group["lr"] = learning_rate
        self._generator.manual_seed(seed)
        self._updates, self._policy_entropy = 0, None

    def track(self, observations: Tensor, batches: int) -> None:
        """Update the policy's scaling; the critic sees observations scaled by the policy."""
        self.network.track(observations, batches)

    def update(
        self, observation: Tensor, action: Tensor, returns: Tensor, discount: Tensor, next_observation: Tensor
    ) -> Tensor:
        """One critic step on (Q(s, a) - (G_n + gamma^n (Q'(s_n, a_n) + temperature * entropy)))^2.

        Q' is the smallest value of the target networks, and a_n is sampled from the policy. Every ``_ACTOR_EVERY``-th
        update is followed by a policy step.

        Returns:
            The critic's loss, a scalar.
        """
        scaled, next_scaled = self.network.scaled(observation), self.network.scaled(next_observation)
        temperature = self.log_temperature.detach().exp()
        with self._autocast():
            with torch.no_grad():
                logits = self.network.forward_scaled(next_scaled)
                value = self.target(next_scaled, self._sample_levels(logits)).amin(0)
                target = returns + discount * (value + temperature * _entropy(logits))
            predicted = self.critic(scaled, self._levels_of(action))
        loss = mse_loss(predicted, target.expand_as(predicted))
        self._step("critic", loss, self.critic.parameters())
        polyak(self.target, self.critic, self._settings.target_rate)
        if self._updates % _ACTOR_EVERY == 0:
            self._update_policy(scaled, temperature)
        self._updates += 1
        return loss.detach()

    def _update_policy(self, scaled: Tensor, temperature: Tensor) -> None:
        """One policy step on -(Q(s, a) + temperature * entropy), and a temperature step towards the target entropy."""
        with self._autocast():
            logits = self.network.forward_scaled(scaled)
            value = self.critic(scaled, self._sample_levels(logits)).mean(0)
        entropy = _entropy(logits)
        self._step("actor", -(value + temperature * entropy).mean(), self.network.parameters())
        self._policy_entropy = entropy.detach().mean()
        excess = self._policy_entropy - self._target_entropy
        self._step("temperature", self.log_temperature * excess, [self.log_temperature])

    def _levels_of(self, action: Tensor) -> Tensor:
        """Levels (B, N) of choices (B, N)."""
        return self._levels.expand(len(action), -1, -1).gather(-1, action[..., None]).squeeze(-1)

    def _sample_levels(self, logits: Tensor) -> Tensor:
        """Levels (B, N) of choices sampled from logits (B, N, C), with the gradient of the softmax."""
        uniform = torch.rand(logits.shape, generator=self._generator, device=logits.device)
        noisy = logits - uniform.clamp_min_(_LEAST_UNIFORM).log_().neg_().log_()
        levels = self._levels_of(noisy.argmax(-1))
        if not torch.is_grad_enabled():
            return levels
        soft = (_choices_first(noisy).softmax(0) * _choices_first(self._levels)[:, None]).sum(0)
        return levels + (soft - soft.detach())

    def _step(self, name: str, loss: Tensor, parameters: Iterable[Tensor]) -> None:
        """One step of one optimiser; other parameters that the loss depends on get no gradient."""
        self._optimizers[name].zero_grad()
        loss.backward(inputs=list(parameters))
        self._optimizers[name].step()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._settings.bfloat16)

    def measures(self) -> dict[str, float]:
        """The policy's entropy as a fraction of the largest possible, and the temperature."""
        if self._policy_entropy is None:
            return {}
        fraction = self._policy_entropy / self._target_entropy * self._settings.entropy
        return {"entropy": float(fraction), "temperature": float(self.log_temperature.detach().exp())}

    def tensors(self) -> dict[str, Tensor]:
        """Everything that a checkpoint needs."""
        tensors = {"log_temperature": self.log_temperature.detach()}
        for prefix, module in self._modules():
            tensors |= {f"{prefix}{key}": value for key, value in module.state_dict().items()}
        for name, optimizer in self._optimizers.items():
            tensors |= optimizer_tensors(optimizer, f"optimizer.{name}.")
        return tensors

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what ``tensors`` returned."""
        self._load_temperature(tensors)
        for prefix, module in self._modules():
            module.load_state_dict(strip_prefix(tensors, prefix))
        for name, optimizer in self._optimizers.items():
            load_optimizer_tensors(optimizer, tensors, f"optimizer.{name}.")

    def _load_temperature(self, tensors: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            self.log_temperature.copy_(tensors["log_temperature"])

    def _modules(self) -> tuple[tuple[str, nn.Module], ...]:
        return ("network.", self.network), ("critic.", self.critic), ("target.", self.target)


def levels_of(nvec: Sequence[int]) -> Tensor:
    """Position of each choice between the first (-1) and the last (1) of its sub-action: (N, C), 0 at missing ones."""
    levels = torch.zeros(len(nvec), max(nvec))
    for sub_action, choices in enumerate(nvec):
        levels[sub_action, :choices] = torch.linspace(-1, 1, choices) if choices > 1 else 0.0
    return levels


def _entropy(logits: Tensor) -> Tensor:
    """Entropy (B,) in nats of joint actions sampled from logits (B, N, C), which are -inf at missing choices."""
    logits = _choices_first(logits)
    log_probabilities = logits.log_softmax(0)
    return -(log_probabilities.exp() * log_probabilities.masked_fill(logits.isneginf(), 0.0)).sum((0, -1))


def _choices_first(values: Tensor) -> Tensor:
    """(..., C) to (C, ...): on a CPU, a softmax over a short last dimension takes twenty times as long."""
    return values.movedim(-1, 0).contiguous()
