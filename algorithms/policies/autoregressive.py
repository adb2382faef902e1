"""The autoregressive baseline: an LSTM that chooses one sub-action after the other (SPEC.md section 3, policy 2)."""

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from spin_rl.algorithms.networks.layers import BatchedLinear, missing_choices
from spin_rl.algorithms.policies.base import Policy, choose, chosen_log_probs
from spin_rl.algorithms.presets import Preset


class AutoregressivePolicy(Policy):
    """pi(a | s) = product over i of pi_i(a_i | s, a_1 .. a_{i-1}); training feeds the true sub-actions."""

    stackable = True
    capturable = False  # cuDNN's few LSTM calls would gain little
    missing: Tensor

    def __init__(
        self,
        observation_size: int,
        nvec: Sequence[int],
        width: int = 256,
        state_width: int = 128,
        token_width: int = 32,
        layers: int = 2,
    ) -> None:
        super().__init__()
        self.nvec = tuple(nvec)
        self.state = nn.Linear(observation_size, state_width)
        self.start = max(self.nvec)  # the last row of the table shared by all sub-actions
        self.tokens = nn.Embedding(max(self.nvec) + 1, token_width)
        self.lstm = nn.LSTM(state_width + token_width, width, layers, batch_first=True)
        self.heads = BatchedLinear(len(self.nvec), width, max(self.nvec))
        self.register_buffer("missing", missing_choices(nvec), persistent=False)

    @classmethod
    def from_preset(cls, observation_size: int, nvec: Sequence[int], preset: Preset) -> Self:
        """``autoregressive``."""
        return cls(observation_size, nvec, preset.lstm_width, preset.lstm_state_width, preset.lstm_token_width)

    def log_probs(self, observation: Tensor, action: Tensor) -> Tensor:
        previous = functional.pad(action[..., :-1], (1, 0), value=self.start)  # (B, N)
        state = functional.relu(self.state(observation)).unsqueeze(-2).expand(*action.shape, -1)
        hidden, _ = self.lstm(torch.cat([state, self.tokens(previous)], -1))  # (B, N, width)
        logits = self.heads(hidden.transpose(-3, -2)).transpose(-3, -2)  # (B, N, C)
        return chosen_log_probs(logits.masked_fill(self.missing, -torch.inf), action)

    def act(self, observation: Tensor, uniforms: Tensor | None = None) -> Tensor:
        state = functional.relu(self.state(observation))
        chosen = torch.full(observation.shape[:1], self.start, device=observation.device)
        actions, memory = [], None
        for index in range(len(self.nvec)):
            step = torch.cat([state, self.tokens(chosen)], -1)[:, None]  # (B, 1, state + token)
            hidden, memory = self.lstm(step, memory)
            logits = hidden[:, 0] @ self.heads.weight[index] + self.heads.bias[index]  # (B, C)
            logits = logits.masked_fill(self.missing[index], -torch.inf)
            chosen = choose(logits, None if uniforms is None else uniforms[:, index])
            actions.append(chosen)
        return torch.stack(actions, -1)
