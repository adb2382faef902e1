"""What every policy gives, and how per-sub-action logits become log-probabilities and actions."""

from collections.abc import Sequence

from torch import Tensor, nn


class Policy(nn.Module):
    """A stochastic policy over joint actions."""

    nvec: tuple[int, ...]

    def log_probs(self, observation: Tensor, action: Tensor) -> Tensor:
        """log pi_i(a_i | s, ...) of each sub-action, (B, N), for observations (B, S) and joint actions (B, N)."""
        raise NotImplementedError

    def act(self, observation: Tensor, uniforms: Tensor | None = None) -> Tensor:
        """Joint actions (B, N): each distribution inverted at ``uniforms`` (B, N), or greedy without them."""
        raise NotImplementedError


class FactorisedPolicy(Policy):
    """A policy whose sub-actions are independent given the state: ``logits`` says it all."""

    def __init__(self, nvec: Sequence[int]) -> None:
        super().__init__()
        self.nvec = tuple(nvec)

    def logits(self, observation: Tensor) -> Tensor:
        """Logits (B, N, C) of every choice, -inf at those that do not exist."""
        raise NotImplementedError

    def log_probs(self, observation: Tensor, action: Tensor) -> Tensor:
        return chosen_log_probs(self.logits(observation), action)

    def act(self, observation: Tensor, uniforms: Tensor | None = None) -> Tensor:
        return choose(self.logits(observation), uniforms)


def chosen_log_probs(logits: Tensor, action: Tensor) -> Tensor:
    """Log-probabilities (..., N) of the chosen actions (..., N) under logits (..., N, C)."""
    return logits.float().log_softmax(-1).gather(-1, action[..., None]).squeeze(-1)


def choose(logits: Tensor, uniforms: Tensor | None) -> Tensor:
    """The best choice under logits (..., C), or the one at the quantile ``uniforms`` (...) of its distribution."""
    if uniforms is None:
        return logits.argmax(-1)
    cumulative = logits.double().softmax(-1).cumsum(-1)
    # the total may round to less than a uniform: scale instead of running past the last choice that exists
    return (cumulative <= (uniforms * cumulative[..., -1])[..., None]).sum(-1)
