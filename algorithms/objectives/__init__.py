"""Offline objectives: IQL, AWAC and BCQ."""

from collections.abc import Mapping

from spin_rl.algorithms.objectives.awac import AWAC, AWACSettings
from spin_rl.algorithms.objectives.base import Info, Objective, ObjectiveSettings
from spin_rl.algorithms.objectives.bcq import BCQ, BCQSettings
from spin_rl.algorithms.objectives.iql import IQL, IQLSettings
from spin_rl.envs import unknown_name

OBJECTIVES: Mapping[str, type[Objective]] = {objective.settings_class.name: objective for objective in (IQL, AWAC, BCQ)}


def get_objective(name: str) -> type[Objective]:
    """The objective called ``name``; UserError with the list of all where there is none."""
    if name not in OBJECTIVES:
        raise unknown_name("objective", name, OBJECTIVES)
    return OBJECTIVES[name]


__all__ = [
    "AWAC",
    "BCQ",
    "IQL",
    "OBJECTIVES",
    "AWACSettings",
    "BCQSettings",
    "IQLSettings",
    "Info",
    "Objective",
    "ObjectiveSettings",
    "get_objective",
]
