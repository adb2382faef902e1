"""Online soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905) with a factored policy and a joint critic.

DecQN's value of a joint action is a mean of utilities, each of which is learnt from what all other sub-actions happened
to do beside it: with many sub-actions that drowns what a single one is worth. Here the critic sees the whole joint
action, each sub-action as where its choice lies between the first (-1) and the last (1). What each is worth beside all
others is the critic's gradient, on which the policy climbs through straight-through Gumbel-softmax samples (Jang et al.
2017, arXiv 1611.01144). Layer normalisation keeps the critic from overestimating without bound (Nauman et al. 2024,
arXiv 2403.00514).
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from spin_rl.envs.behaviour.learner import polyak, within
from spin_rl.envs.behaviour.settings import BehaviourSettings
from spin_rl.optimizer_state import load_optimizer_tensors, optimizer_tensors

_ACTOR_EVERY = 2
"""Updates of the critic for each of the policy (Fujimoto et al. 2018, arXiv 1802.09477)."""

_TEMPERATURE, _TEMPERATURE_RATE = 0.01, 1e-3
"""Of the entropy at the start, for rewards of at most 1 a step, and the learning rate of its logarithm."""

_LEAST_UNIFORM = 1e-12
"""Of numbers from 0 to 1 whose logarithm is taken."""

_NEARLY_UNIFORM = 0.1
"""Of the policy's last layer's weights at the start."""


class JointCritic(nn.Module):
    """Values (K, B) of joint actions, by K networks: of scaled observations (B, S) and levels (B, N)."""

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
    """Learns logits, by which every sub-action's choice is drawn; the greatest is what it does when not exploring."""

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
        self._entropy = settings.entropy * sum(math.log(choices) for choices in nvec)
        self._optimizers = {
            "actor": torch.optim.Adam(self.network.parameters(), settings.learning_rate, fused=True),
            "critic": torch.optim.Adam(self.critic.parameters(), settings.learning_rate, fused=True),
            "temperature": torch.optim.Adam([self.log_temperature], _TEMPERATURE_RATE),
        }
        self._generator = torch.Generator(device)
        self._updates = 0  # of the round
        self._drawn_entropy: Tensor | None = None  # mean of the last update of the policy, in nats

    def begin_with(self, tensors: Mapping[str, Tensor]) -> None:
        """A snapshot has the policy alone. A critic sees levels, so that it fits however many choices there are."""
        self.network.load_state_dict(within(tensors, "network."))
        if critic := within(tensors, "critic."):
            self.critic.load_state_dict(critic)
            self.target.load_state_dict(critic)
            self._begin_with_temperature(tensors)

    def begin_round(self, learning_rate: float, seed: int) -> None:
        """What a round's updates draw is a function of ``seed``."""
        for name in ("actor", "critic"):
            for group in self._optimizers[name].param_groups:
                group["lr"] = learning_rate
        self._generator.manual_seed(seed)
        self._updates, self._drawn_entropy = 0, None

    def track(self, observations: Tensor, batches: int) -> None:
        """The critic sees what the policy scales."""
        self.network.track(observations, batches)

    def update(self, observation: Tensor, action: Tensor, returns: Tensor, discount: Tensor, then: Tensor) -> Tensor:
        """A step on (Q(s, a) - (G_n + gamma^n (Q'(s_n, a_n) + temperature * entropy)))^2; at times one of the policy.

        Q' is the smallest of the target networks', and a_n is drawn from the policy.

        Returns:
            The critic's loss, a scalar.
        """
        scaled, scaled_then = self.network.scaled(observation), self.network.scaled(then)
        temperature = self.log_temperature.detach().exp()
        with self._autocast():
            with torch.no_grad():
                logits = self.network.of_scaled(scaled_then)
                value = self.target(scaled_then, self._levels_of_drawn(logits)).amin(0)
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
        """A step on -(Q(s, a) + temperature * entropy), and one of the temperature towards the entropy wanted."""
        with self._autocast():
            logits = self.network.of_scaled(scaled)
            value = self.critic(scaled, self._levels_of_drawn(logits)).mean(0)
        entropy = _entropy(logits)
        self._step("actor", -(value + temperature * entropy).mean(), self.network.parameters())
        self._drawn_entropy = entropy.detach().mean()
        above = self._drawn_entropy - self._entropy
        self._step("temperature", self.log_temperature * above, [self.log_temperature])

    def _levels_of(self, action: Tensor) -> Tensor:
        """Levels (B, N) of choices (B, N)."""
        return self._levels.expand(len(action), -1, -1).gather(-1, action[..., None]).squeeze(-1)

    def _levels_of_drawn(self, logits: Tensor) -> Tensor:
        """Levels (B, N) of choices drawn by logits (B, N, C); their gradient is that of the softmax."""
        uniform = torch.rand(logits.shape, generator=self._generator, device=logits.device)
        noisy = logits - uniform.clamp_min_(_LEAST_UNIFORM).log_().neg_().log_()
        levels = self._levels_of(noisy.argmax(-1))
        if not torch.is_grad_enabled():
            return levels
        soft = (_choices_first(noisy).softmax(0) * _choices_first(self._levels)[:, None]).sum(0)
        return levels + (soft - soft.detach())

    def _step(self, name: str, loss: Tensor, parameters: Iterable[Tensor]) -> None:
        """Of one optimiser; other parameters that the loss goes through get no gradient."""
        self._optimizers[name].zero_grad()
        loss.backward(inputs=list(parameters))
        self._optimizers[name].step()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, torch.bfloat16, enabled=self._settings.bfloat16)

    def measures(self) -> dict[str, float]:
        """The policy's entropy as a share of the largest, and the temperature."""
        if self._drawn_entropy is None:
            return {}
        share = self._drawn_entropy / self._entropy * self._settings.entropy
        return {"entropy": float(share), "temperature": float(self.log_temperature.detach().exp())}

    def tensors(self) -> dict[str, Tensor]:
        """All that a checkpoint needs."""
        tensors = {"log_temperature": self.log_temperature.detach()}
        for prefix, module in self._modules():
            tensors |= {f"{prefix}{key}": value for key, value in module.state_dict().items()}
        for name, optimizer in self._optimizers.items():
            tensors |= optimizer_tensors(optimizer, f"optimizer.{name}.")
        return tensors

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what ``tensors`` gave."""
        self._begin_with_temperature(tensors)
        for prefix, module in self._modules():
            module.load_state_dict(within(tensors, prefix))
        for name, optimizer in self._optimizers.items():
            load_optimizer_tensors(optimizer, tensors, f"optimizer.{name}.")

    def _begin_with_temperature(self, tensors: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            self.log_temperature.copy_(tensors["log_temperature"])

    def _modules(self) -> tuple[tuple[str, nn.Module], ...]:
        return ("network.", self.network), ("critic.", self.critic), ("target.", self.target)


def levels_of(nvec: Sequence[int]) -> Tensor:
    """Where each choice lies between the first (-1) and the last (1) of its sub-action: (N, C), 0 at missing ones."""
    levels = torch.zeros(len(nvec), max(nvec))
    for sub_action, choices in enumerate(nvec):
        levels[sub_action, :choices] = torch.linspace(-1, 1, choices) if choices > 1 else 0.0
    return levels


def _entropy(logits: Tensor) -> Tensor:
    """Of joint actions drawn by logits (B, N, C), -inf at missing choices: (B,), in nats."""
    logits = _choices_first(logits)
    log_shares = logits.log_softmax(0)
    return -(log_shares.exp() * log_shares.masked_fill(logits.isneginf(), 0.0)).sum((0, -1))


def _choices_first(of_choices: Tensor) -> Tensor:
    """(..., C) to (C, ...): on a CPU a softmax over few neighbours takes twenty times as long as one across rows."""
    return of_choices.movedim(-1, 0).contiguous()
