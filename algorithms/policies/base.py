"""What every policy implements, and how per-sub-action logits become log-probabilities and actions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from spin_rl.algorithms.asm.model import ActionStructureModel
from spin_rl.algorithms.data.batches import DeviceTransitions
from spin_rl.algorithms.data.features import FeatureStorage, FeatureTable
from spin_rl.algorithms.networks.critics import FactoredCritic
from spin_rl.algorithms.networks.freezing import copy_parameters
from spin_rl.algorithms.networks.layers import precise
from spin_rl.algorithms.policies.valuation import (
    BestAction,
    best_candidate,
    best_choices,
    exact_value,
    sampled_value,
)


@dataclass(frozen=True)
class Preparation:
    """What was done once with a dataset before the first update.

    Attributes:
        seconds: that it took, or had taken when its stored result was made.
        table: features of every state, where the policy reads stored ones.
    """

    seconds: float = 0.0
    table: FeatureTable | None = None


class Policy(nn.Module):
    """A stochastic policy over joint actions.

    ``log_probs``, ``act`` and what is built on them read ``features`` of a state: the observation itself, or the output
    of a part that does not train, which may then be computed once for a whole dataset.

    A subclass implements ``log_probs`` and ``act``, and says by class attributes what else it supports.
    """

    nvec: tuple[int, ...]
    stackable: ClassVar[bool] = False
    """Whether several seeds can be trained as one network: all of its layers are covered by ``networks.stacked`` and
    its own code counts dimensions from the last."""
    capturable: ClassVar[bool] = False
    """Whether its forward pass can be part of a CUDA graph: kernels alone, the same ones every time."""
    prepares_once: ClassVar[bool] = False
    """Whether ``prepare`` gives the same for every seed of one pretrained model."""

    def start_from(self, model: nn.Module) -> None:
        """Copy what the policy takes from a pretrained model, which fits its spaces and sizes.

        Here the model is a clone of the policy itself, of which it takes everything. A policy that takes less, or
        starts from an action structure model, says so in its own method.
        """
        if not isinstance(model, type(self)):
            raise NotImplementedError(f"{type(self).__name__} starts from no pretrained model.")
        copy_parameters(model, self)

    def prepare(
        self, data: DeviceTransitions, asm: ActionStructureModel | None, storage: FeatureStorage, seed: int
    ) -> Preparation:
        """Do what the method does once with its dataset; without effect where a restored state has it already.

        Args:
            data: the training data, on the policy's device.
            asm: the pretrained model, for a method that starts from one.
            storage: where features that are computed once are kept.
            seed: of whatever is random.
        """
        return Preparation()

    def features(self, observation: Tensor) -> Tensor:
        """What the policy reads, (B, ...), of observations (B, S)."""
        return observation

    def log_probs(self, features: Tensor, action: Tensor) -> Tensor:
        """log pi_i(a_i | s, ...) of each sub-action, (B, N), for features (B, ...) and joint actions (B, N).

        Where the likelihood is not known exactly: terms of a random lower bound of log pi(a | s), which is their sum.
        """
        raise NotImplementedError

    def act(self, features: Tensor, uniforms: Tensor | None = None) -> Tensor:
        """Joint actions (B, N): each distribution inverted at ``uniforms`` (B, draws), or greedy without them."""
        raise NotImplementedError

    def draws(self, *, sample: bool) -> int:
        """Uniform random numbers that ``decide`` needs for one observation."""
        return len(self.nvec) if sample else 0

    def decide(self, observation: Tensor, uniforms: Tensor | None, *, sample: bool) -> Tensor:
        """Joint actions (B, N) for observations (B, S), sampled at ``uniforms`` (B, draws) or greedy."""
        return self.act(self.features(observation), uniforms if sample else None)

    def value_draws(self, samples: int) -> int:
        """Uniforms per state that ``expected_value`` and ``best_action`` need for so many samples; 0 if exact."""
        return samples * self.draws(sample=True)

    def expected_value(
        self, critic: FactoredCritic, observation: Tensor, features: Tensor, uniforms: Tensor | None
    ) -> Tensor:
        """E over a ~ pi of Q(s, a) by each critic, (E, B): the mean over sampled joint actions.

        Args:
            critic: Q.
            observation: (B, S), what the critic reads of the states.
            features: what the policy reads of them.
            uniforms: (B, value_draws) in [0, 1), float64; None where there are no draws.
        """
        q_EBNC: Tensor = critic(observation)
        return sampled_value(q_EBNC, self._samples(features, uniforms), critic.combine)

    def best_action(
        self, critic: FactoredCritic, observation: Tensor, features: Tensor, uniforms: Tensor | None, threshold: float
    ) -> BestAction:
        """The best joint action by each critic among those that the policy admits: here, the ones that it samples.

        Args:
            critic: Q.
            observation: (B, S), what the critic reads of the states.
            features: what the policy reads of them.
            uniforms: (B, value_draws) in [0, 1), float64; None where there are no draws.
            threshold: for exact policies: least probability of a choice as a share of the likeliest one's.
        """
        q_EBNC: Tensor = critic(observation)
        return best_candidate(q_EBNC, self._samples(features, uniforms), critic.combine)

    def own_rates(self) -> Mapping[nn.Parameter, float]:
        """Learning rates of the parameters that have one of their own."""
        return {}

    def _samples(self, features: Tensor, uniforms: Tensor | None) -> Tensor:
        """K joint actions (B, K, N) for each state at ``uniforms`` (B, K draws)."""
        assert uniforms is not None
        return sample_actions(self, features, uniforms.unflatten(-1, (-1, self.draws(sample=True))))


class FactorisedPolicy(Policy):
    """A policy with independent sub-actions given the state, which ``logits`` describes wholly."""

    def __init__(self, nvec: Sequence[int]) -> None:
        super().__init__()
        self.nvec = tuple(nvec)

    def logits(self, features: Tensor) -> Tensor:
        """Logits (B, N, C) of every choice, -inf for choices that do not exist."""
        raise NotImplementedError

    def probabilities(self, features: Tensor) -> Tensor:
        """pi_i(c | s) of every choice, (B, N, C); 0 for choices that do not exist."""
        return precise(self.logits(features)).softmax(-1)

    def log_probs(self, features: Tensor, action: Tensor) -> Tensor:
        return chosen_log_probs(self.logits(features), action)

    def act(self, features: Tensor, uniforms: Tensor | None = None) -> Tensor:
        return choose(self.logits(features), uniforms)

    def value_draws(self, samples: int) -> int:
        return 0

    def expected_value(
        self, critic: FactoredCritic, observation: Tensor, features: Tensor, uniforms: Tensor | None
    ) -> Tensor:
        """E over a ~ pi of Q(s, a) by each critic, (E, B), exactly."""
        return exact_value(critic(observation), self.probabilities(features), critic.combine)

    def best_action(
        self, critic: FactoredCritic, observation: Tensor, features: Tensor, uniforms: Tensor | None, threshold: float
    ) -> BestAction:
        """The best admissible joint action by each critic, exactly."""
        return best_choices(critic(observation), self.logits(features), threshold, critic.combine)


def chosen_log_probs(logits: Tensor, action: Tensor) -> Tensor:
    """Log-probabilities (..., N) of the chosen actions (..., N) under logits (..., N, C)."""
    return precise(logits).log_softmax(-1).gather(-1, action[..., None]).squeeze(-1)


def choose(logits: Tensor, uniforms: Tensor | None) -> Tensor:
    """The most likely choice under logits (..., C), or the one at the quantile ``uniforms`` (...)."""
    if uniforms is None:
        return logits.argmax(-1)
    cumulative = logits.double().softmax(-1).cumsum(-1)
    # the total may round to less than a uniform: scale instead of running past the last choice that exists
    return (cumulative <= (uniforms * cumulative[..., -1])[..., None]).sum(-1)


def sample_actions(policy: Policy, features: Tensor, uniforms: Tensor) -> Tensor:
    """K joint actions (B, K, N) for the features of each of B states, at the given ``uniforms`` (B, K, draws)."""
    count = uniforms.shape[1]
    actions = policy.act(features.repeat_interleave(count, 0), uniforms.flatten(0, 1))  # (B K, N)
    return actions.unflatten(0, (-1, count))
