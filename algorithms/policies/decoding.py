"""Decoding of a masked model in K passes: each fixes the sub-actions that it is most confident about (METHODS.md 11.2).

As MaskGIT decodes images (Chang et al. 2022, arXiv 2202.04200, section 3.2), here from given random numbers alone.
Shapes: B states, N sub-actions, C choices, K passes.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from spin_rl.algorithms.networks.layers import precise
from spin_rl.algorithms.policies.base import choose, chosen_log_probs
from spin_rl.errors import UserError, unknown_name

SCHEDULES: Mapping[str, Callable[[float], float]] = {
    "cosine": lambda done: math.cos(0.5 * math.pi * done),
    "linear": lambda done: 1.0 - done,
}
"""Share of the sub-actions that is still masked after a fraction ``done`` of the passes."""

CONFIDENCES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "likeliest": lambda logits_BNC, _: precise(logits_BNC).log_softmax(-1).amax(-1),
    "choice": chosen_log_probs,
}
"""Log-probability (B, N) that is the confidence in a sub-action, from logits (B, N, C) and choices (B, N)."""

_MOST_PASSES = 8
"""Passes by default, where there are as many sub-actions."""


@dataclass(frozen=True)
class Decoding:
    """How a masked model decodes.

    Attributes:
        passes: K, from 1 (every sub-action independently) to N (one after the other); by default N, at most 8.
        temperature: of the Gumbel noise on confidences when sampling; 0: the most confident first, large: any order.
        schedule: how many sub-actions a pass fixes: ``cosine`` (few at first) or ``linear``.
        confidence: whose log-probability it is: that of the ``likeliest`` choice, so that the order does not depend on
            what is drawn, or that of the drawn ``choice`` (MaskGIT's), which needs fewer passes for choices that fit
            each other, but prefers likely ones: two modes of 1/3 and 2/3 come out as 1/5 and 4/5 at temperature 1, and
            as one mode at 0. Without sampling they are the same.
    """

    passes: int | None = None
    temperature: float = 1.0
    schedule: str = "cosine"
    confidence: str = "likeliest"

    def __post_init__(self) -> None:
        whole = isinstance(self.passes, int) and not isinstance(self.passes, bool)
        if self.passes is not None and (not whole or self.passes < 1):
            raise UserError(f"decode_passes={self.passes} must be a whole number of at least 1, or null.")
        if not 0 <= self.temperature < math.inf:
            raise UserError(f"decode_temperature={self.temperature} must be 0 or a positive number.")
        if self.schedule not in SCHEDULES:
            raise unknown_name("schedule of decoding", self.schedule, SCHEDULES)
        if self.confidence not in CONFIDENCES:
            raise unknown_name("confidence of decoding", self.confidence, CONFIDENCES)

    def reveals(self, sub_actions: int) -> tuple[int, ...]:
        """How many of N ``sub_actions`` each of the K passes fixes: at least one, all of them together.

        After pass k, ceil(N (1 - schedule(k / K))) are fixed, or the nearest number that leaves one for each pass.

        Raises:
            UserError: there are more passes than sub-actions.
        """
        passes = min(sub_actions, _MOST_PASSES) if self.passes is None else self.passes
        if passes > sub_actions:
            raise UserError(
                f"decode_passes={passes} is more than the {sub_actions} sub-actions of a joint action, of which each "
                f"pass fixes at least one: give at most {sub_actions}."
            )
        fixed = [0]
        for number in range(1, passes + 1):
            masked = SCHEDULES[self.schedule](number / passes)
            aim = math.ceil(sub_actions * (1.0 - masked) - 1e-9)  # rounding must not ask for one more
            fixed.append(min(max(aim, fixed[-1] + 1), sub_actions - (passes - number)))
        return tuple(after - before for before, after in pairwise(fixed))

    def draws(self, sub_actions: int) -> int:
        """Uniforms of one sampled joint action: N for choices, and N for the noise of each pass but the last."""
        return sub_actions * (len(self.reveals(sub_actions)) if self.temperature else 1)


def decode(
    predict: Callable[[Tensor], Tensor],
    mask_tokens: Tensor,
    states: int,
    decoding: Decoding,
    uniforms: Tensor | None = None,
) -> Tensor:
    """Joint actions (B, N), all states together: predict what is masked, fix the most confident, repeat.

    A sub-action's choice is its distribution inverted at the same uniform in every pass, so that an unlikely one that
    was not fixed is not drawn anew; its confidence is log p + temperature x Gumbel noise. Without uniforms the choice
    is the likeliest, and there is no noise.

    With ``likeliest`` confidences and one sub-action a pass, samples have the model's joint distribution wherever its
    conditionals are those of one.

    Args:
        predict: tokens (B, N) to logits (B, N, C), -inf at choices that do not exist.
        mask_tokens: (N,), the token of each sub-action that hides it.
        states: B.
        decoding: passes, temperature and schedule.
        uniforms: (B, ``decoding.draws``) in [0, 1), float64; None decodes greedily.
    """
    count = len(mask_tokens)
    reveals, confidences = decoding.reveals(count), CONFIDENCES[decoding.confidence]
    tokens = mask_tokens.expand(states, count)
    masked = torch.ones_like(tokens, dtype=torch.bool)
    quantiles = None if uniforms is None else uniforms[:, :count]
    for number, reveal in enumerate(reveals, 1):
        logits_BNC = predict(tokens)
        choice = choose(logits_BNC, quantiles)
        if number == len(reveals):
            break
        confidence = confidences(logits_BNC, choice).double()
        if uniforms is not None and decoding.temperature:
            noise = uniforms[:, number * count : (number + 1) * count]
            confidence = confidence + decoding.temperature * gumbel(noise)
        fixed = confidence.masked_fill(~masked, -torch.inf).topk(reveal).indices  # (B, reveal)
        tokens = tokens.scatter(-1, fixed, choice.gather(-1, fixed))
        masked = masked.scatter(-1, fixed, False)
    return torch.where(masked, choice, tokens)


def gumbel(uniforms: Tensor) -> Tensor:
    """Standard Gumbel variables at the quantiles ``uniforms`` in [0, 1)."""
    return -(-uniforms.clamp(min=1e-300).log()).log()  # at 0 it would be -inf, which marks what is fixed
