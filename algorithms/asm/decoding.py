"""How a masked model is decoded in K passes: settings and schedule (METHODS.md section 11.2).

Shapes: N sub-actions, K passes.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from spin_rl.errors import UserError, unknown_name

SCHEDULES: Mapping[str, Callable[[float], float]] = {
    "cosine": lambda done: math.cos(0.5 * math.pi * done),
    "linear": lambda done: 1.0 - done,
}
"""Share of the sub-actions that is still masked after a fraction ``done`` of the passes."""

CONFIDENCES = ("likeliest", "choice")
"""Whose log-probability is the confidence in a sub-action."""

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
