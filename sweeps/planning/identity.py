"""What addresses a sweep's results: trial ids, plan digests and names, all made from a plan's content, only here.

Results that exist are found by these. Trials are taken as they are, including the paths of their datasets and models,
so a sweep whose data or storage is elsewhere has other ids.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from spin_rl.platform.common.identity import identity_key

Trials = Sequence[Mapping[str, Any]]


def trial_ids(trials: Trials) -> list[str]:
    """An id for every trial, in their order: the same for the same trials, so that each finds its files again."""
    prefix = identity_key({"trials": trials})[:5]
    return [f"{prefix}_{number:05d}" for number in range(len(trials))]


def plan_digest(trials: Trials, search: Mapping[str, Any]) -> str:
    """A digest of what makes a plan this one. The number of points is left out: a search can be extended."""
    content: dict[str, Any] = {"trials": trials}
    if search:
        content["search"] = {name: value for name, value in search.items() if name != "points"}
    return identity_key(content)


def name_suffix(trials: Trials, search: Mapping[str, Any]) -> str:
    """What tells apart the names of plans that are made from the same sweep with other settings."""
    content: dict[str, Any] = {"trials": trials}
    if search:
        content["parameters"] = search["parameters"]
    return identity_key(content)[:6]
