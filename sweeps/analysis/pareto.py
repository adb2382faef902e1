"""Points that no other beats in score and seconds: the front, its knee, and how certain both are."""

from itertools import product

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_DRAWS = 1000
"""Resamples of the seeds, if there are more than can be listed."""


def front(scores: Floats, seconds: Floats) -> NDArray[np.bool_]:
    """Which points (P,) no other beats: with at least the score in at most the seconds, and one of them better."""
    at_least = (scores[None] >= scores[:, None]) & (seconds[None] <= seconds[:, None])
    better = (scores[None] > scores[:, None]) | (seconds[None] < seconds[:, None])
    return np.asarray(~(at_least & better).any(axis=1))


def knee(scores: Floats, seconds: Floats) -> int:
    """Index of the front's point farthest above the line between its ends, both axes scaled to the front's range.

    Before it a second gains more score than on the average of the whole front, after it less. If no point is above the
    line, every second gains at least as much as those before it, and the point with the best score is the knee.
    """
    on = np.flatnonzero(front(scores, seconds))
    on = on[np.argsort(seconds[on], kind="stable")]
    width, height = np.ptp(seconds[on]), np.ptp(scores[on])
    if width == 0 or height == 0:
        return int(on[-1])
    above = (scores[on] - scores[on].min()) / height - (seconds[on] - seconds[on].min()) / width
    return int(on[np.argmax(above)] if above.max() > 1e-9 else on[-1])  # a front's last has the best score


def front_shares(runs: Floats, seed: int = 0) -> tuple[Floats, Floats]:
    """Shares (P,) of resamples of the seeds in which each point is on the front, and is the knee.

    All points are resampled together, as all have the same seeds. Few seeds are resampled in every possible way.

    Args:
        runs: scores and seconds of every seed, (P, 2, seeds).
        seed: of the draws.
    """
    count = runs.shape[-1]
    if count < 2:
        return np.full(len(runs), np.nan), np.full(len(runs), np.nan)
    if count**count <= _DRAWS:
        draws = np.array(list(product(range(count), repeat=count)))
    else:
        draws = np.random.default_rng(seed).integers(count, size=(_DRAWS, count))
    on, knees = np.zeros(len(runs)), np.zeros(len(runs))
    for draw in draws:
        scores, seconds = runs[:, :, draw].mean(-1).T  # each (P,)
        on += front(scores, seconds)
        knees[knee(scores, seconds)] += 1
    return on / len(draws), knees / len(draws)
