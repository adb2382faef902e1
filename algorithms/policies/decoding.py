"""Decoding of a masked model in K passes: each fixes the sub-actions that it is most confident about (METHODS.md 11.2).

As MaskGIT decodes images (Chang et al. 2022, arXiv 2202.04200, section 3.2), here from given random numbers alone.
Shapes: B states, N sub-actions, C choices, K passes.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from spin_rl.algorithms.asm.decoding import Decoding
from spin_rl.algorithms.networks.layers import precise
from spin_rl.algorithms.policies.base import choose, chosen_log_probs

_CONFIDENCE: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "likeliest": lambda logits_BNC, _: precise(logits_BNC).log_softmax(-1).amax(-1),
    "choice": chosen_log_probs,
}
"""Log-probability (B, N) that is the confidence in a sub-action, from logits (B, N, C) and choices (B, N)."""


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
    reveals, confidence_of = decoding.reveals(count), _CONFIDENCE[decoding.confidence]
    tokens = mask_tokens.expand(states, count)
    masked = torch.ones_like(tokens, dtype=torch.bool)
    quantiles = None if uniforms is None else uniforms[:, :count]
    for number, reveal in enumerate(reveals, 1):
        logits_BNC = predict(tokens)
        choice = choose(logits_BNC, quantiles)
        if number == len(reveals):
            break
        confidence = confidence_of(logits_BNC, choice).double()
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
