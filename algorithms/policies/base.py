"""What every policy gives, and how per-sub-action logits become log-probabilities and actions."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from spin_rl.algorithms.networks.layers import precise


class Policy(nn.Module):
    """A stochastic policy over joint actions.

    A policy reads ``features`` of a state: the observation itself, but for policies that start with a part that does
    not train, whose output may then be computed once for a whole dataset.
    """

    nvec: tuple[int, ...]
    seeds: int | None = None
    """How many policies this is at once, each with its own states: a first dimension of all that goes in and out."""

    def features(self, observation: Tensor) -> Tensor:
        """What the policy reads, (B, ...), of observations (B, S)."""
        return observation

    def log_probs(self, features: Tensor, action: Tensor) -> Tensor:
        """log pi_i(a_i | s, ...) of each sub-action, (B, N), for features (B, ...) and joint actions (B, N)."""
        raise NotImplementedError

    def act(self, features: Tensor, uniforms: Tensor | None = None) -> Tensor:
        """Joint actions (B, N): each distribution inverted at ``uniforms`` (B, N), or greedy without them."""
        raise NotImplementedError

    def draws(self, *, sample: bool) -> int:
        """Uniform random numbers that ``decide`` needs for one observation."""
        return len(self.nvec) if sample else 0

    def decide(self, observation: Tensor, uniforms: Tensor | None, *, sample: bool) -> Tensor:
        """Joint actions (B, N) for observations (B, S), sampled at ``uniforms`` (B, N) or greedy."""
        return self.act(self.features(observation), uniforms if sample else None)

    def own_rates(self) -> Mapping[nn.Parameter, float]:
        """Learning rates of the parameters that have one of their own."""
        return {}


class FactorisedPolicy(Policy):
    """A policy whose sub-actions are independent given the state: ``logits`` says it all."""

    def __init__(self, nvec: Sequence[int]) -> None:
        super().__init__()
        self.nvec = tuple(nvec)

    def logits(self, features: Tensor) -> Tensor:
        """Logits (B, N, C) of every choice, -inf at those that do not exist."""
        raise NotImplementedError

    def probabilities(self, features: Tensor) -> Tensor:
        """pi_i(c | s) of every choice, (B, N, C); 0 for those that do not exist."""
        return precise(self.logits(features)).softmax(-1)

    def log_probs(self, features: Tensor, action: Tensor) -> Tensor:
        return chosen_log_probs(self.logits(features), action)

    def act(self, features: Tensor, uniforms: Tensor | None = None) -> Tensor:
        return choose(self.logits(features), uniforms)


def chosen_log_probs(logits: Tensor, action: Tensor) -> Tensor:
    """Log-probabilities (..., N) of the chosen actions (..., N) under logits (..., N, C)."""
    return precise(logits).log_softmax(-1).gather(-1, action[..., None]).squeeze(-1)


def choose(logits: Tensor, uniforms: Tensor | None) -> Tensor:
    """The best choice under logits (..., C), or the one at the quantile ``uniforms`` (...) of its distribution."""
    if uniforms is None:
        return logits.argmax(-1)
    cumulative = logits.double().softmax(-1).cumsum(-1)
    # the total may round to less than a uniform: scale instead of running past the last choice that exists
    return (cumulative <= (uniforms * cumulative[..., -1])[..., None]).sum(-1)
