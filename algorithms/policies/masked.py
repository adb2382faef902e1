"""Masked decoding: the action structure model itself is the policy (METHODS.md section 11.2).

A masked discrete diffusion model of joint actions (MDLM, Sahoo et al. 2024, arXiv 2406.07524; any-order autoregression,
Hoogeboom et al. 2021, arXiv 2110.02037). Unlike policies whose sub-actions are independent given the state, it can hold
several modes of the joint action.

Shapes: B states, N sub-actions, C choices, D width.
"""

from collections.abc import Mapping, Sequence
from typing import Self, cast

import torch
from torch import Tensor, nn

from spin_rl.algorithms.asm.decoding import Decoding
from spin_rl.algorithms.asm.hiding import HIDING, Hidden
from spin_rl.algorithms.asm.model import ActionStructureModel, ASMSizes
from spin_rl.algorithms.networks.freezing import freeze
from spin_rl.algorithms.policies.base import Policy, chosen_log_probs
from spin_rl.algorithms.policies.decoding import decode
from spin_rl.algorithms.presets import Preset
from spin_rl.errors import UserError


def bound_terms(logits_BNC: Tensor, action: Tensor, hidden: Hidden) -> Tensor:
    """What each sub-action contributes to a sample of the lower bound of log p(a | s), (B, N).

    E over masks of the sum over hidden i of weight log p(a_i | s, what is visible) <= log p(a | s): the evidence lower
    bound of masked diffusion (arXiv 2406.07524), which is exact where all conditionals are those of one p.
    """
    return hidden.weight * chosen_log_probs(logits_BNC, action) * hidden.mask


class MaskedPolicy(Policy):
    """An action structure model that is trained with the weighted masked loss and decodes in K passes.

    ``log_probs`` is a sample of a lower bound of log pi(a | s), so that objectives which descend -w log pi descend the
    weighted masked loss (w / r) x sum over hidden sub-actions of the cross-entropy.
    """

    def __init__(
        self,
        observation_size: int,
        nvec: Sequence[int],
        sizes: ASMSizes,
        decoding: Decoding,
        trunk_rate: float | None = None,
        *,
        hiding: str = "number",
        trunk_dropout: bool = True,
    ) -> None:
        """
        Args:
            observation_size: S.
            nvec: choices of each sub-action.
            sizes: the model's.
            decoding: passes, temperature and schedule.
            trunk_rate: learning rate of all of the model but its heads, which start from the pretrained ones; None
                freezes it, and the heads are new.
            hiding: how training draws its masks, ``number`` or ``rate``.
            trunk_dropout: whether dropout is active in the trunk while the policy trains.

        Raises:
            UserError: there are more passes than sub-actions.
        """
        super().__init__()
        self.nvec = tuple(nvec)
        self.model = ActionStructureModel(observation_size, self.nvec, sizes)
        self.decoding = decoding
        self.trunk_rate = trunk_rate
        self.hide = HIDING[hiding]
        self.trunk_dropout = trunk_dropout
        decoding.reveals(len(self.nvec))
        if trunk_rate is None:
            for module in self._body:
                freeze(module)

    @classmethod
    def from_preset(cls, observation_size: int, nvec: Sequence[int], preset: Preset) -> Self:
        """``spin-decode``."""
        rate = None if preset.decode_frozen else preset.trunk_learning_rate
        return cls(
            observation_size, nvec, preset.asm, preset.decoding, rate,
            hiding=preset.decode_hiding, trunk_dropout=preset.trunk_dropout,
        )  # fmt: skip

    @property
    def _body(self) -> tuple[nn.Module, ...]:
        """All of the model but its heads."""
        return self.model.state_encoder, self.model.embeddings, self.model.trunk

    def start_from(self, model: nn.Module) -> None:
        """Copy an action structure model, its heads only if they train on with the rest.

        Raises:
            UserError: its heads have another width.
        """
        asm = cast(ActionStructureModel, model)
        ours, theirs = self.model.sizes.head_width, asm.sizes.head_width
        if self.trunk_rate is not None and ours != theirs:
            raise UserError(
                f"The action structure model has head_width {theirs}, spin-decode starts from its heads and needs "
                f"{ours}: give that head_width, or decode_frozen=true, which trains new heads."
            )
        for name in ("state_encoder", "embeddings", "trunk", *(() if self.trunk_rate is None else ("heads",))):
            getattr(self.model, name).load_state_dict(getattr(asm, name).state_dict())

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        self.model.trunk.train(mode and self.trunk_dropout)
        return self

    def own_rates(self) -> Mapping[nn.Parameter, float]:
        if self.trunk_rate is None:
            return {}
        return {parameter: self.trunk_rate for module in self._body for parameter in module.parameters()}

    def log_probs(self, features: Tensor, action: Tensor) -> Tensor:
        """Terms (B, N) whose sum is one sample of a lower bound of log pi(a | s), 0 for sub-actions left visible.

        Masks come from torch's generator. The bound is that of random order, one sub-action at a time; what K passes
        sample lies the nearer to it the more passes there are.
        """
        hidden = self.hide(action)
        logits_BNC = self.model(features, torch.where(hidden.mask, self.model.mask_tokens, action))
        return bound_terms(logits_BNC, action, hidden)

    @torch.no_grad()
    def elbo(self, features: Tensor, action: Tensor, samples: int = 16) -> Tensor:
        """The lower bound of log pi(a | s) in nats, (B,): the mean over so many draws of masks, for reports."""
        total = action.new_zeros(len(action), dtype=torch.float64)
        for _ in range(samples):
            total += self.log_probs(features, action).sum(-1).double()
        return total / samples

    def act(self, features: Tensor, uniforms: Tensor | None = None) -> Tensor:
        """Joint actions (B, N), decoded at ``uniforms`` (B, draws), or greedily without them."""
        state = self.model.state_encoder(features)  # (B, M, D)

        def predict(tokens: Tensor) -> Tensor:
            logits: Tensor = self.model.heads(self.model.attend(state, self.model.embed(tokens)))
            return logits

        return decode(predict, self.model.mask_tokens, len(features), self.decoding, uniforms)

    def draws(self, *, sample: bool) -> int:
        return self.decoding.draws(len(self.nvec)) if sample else 0


def check_passes(nvec: Sequence[int], preset: Preset) -> None:
    """UserError where the policy would decode in more passes than there are sub-actions."""
    preset.decoding.reveals(len(nvec))
