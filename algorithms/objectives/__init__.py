"""Offline objectives: those that train a policy (IQL, AWAC, BCQ), and those that act by their values."""

from collections.abc import Mapping

from spin_rl.algorithms.objectives.awac import AWAC, AWACSettings
from spin_rl.algorithms.objectives.base import Objective, ObjectiveSettings
from spin_rl.algorithms.objectives.bcq import BCQ, BCQSettings
from spin_rl.algorithms.objectives.brave import BraVE, BraVESettings
from spin_rl.algorithms.objectives.decqn import (
    DQNCQL,
    DecQN,
    DecQNBCQ,
    DecQNCQL,
    DecQNIQL,
    DecQNOneStep,
    FactorisedBC,
)
from spin_rl.algorithms.objectives.fas import FAS, FASSettings
from spin_rl.algorithms.objectives.iql import IQL, IQLSettings
from spin_rl.algorithms.objectives.losses import Info
from spin_rl.algorithms.objectives.policy_objective import PolicyObjective
from spin_rl.errors import unknown_name

OBJECTIVES: Mapping[str, type[Objective]] = {
    objective.settings_class.name: objective
    for objective in (
        IQL,
        AWAC,
        BCQ,
        DecQN,
        DecQNBCQ,
        DecQNCQL,
        DecQNIQL,
        DecQNOneStep,
        FactorisedBC,
        DQNCQL,
        FAS,
        BraVE,
    )
}
"""Every objective by name; a new one is its own file and one entry here."""


def get_objective(name: str) -> type[Objective]:
    """The objective called ``name``; UserError with the list of all where there is none."""
    if name not in OBJECTIVES:
        raise unknown_name("objective", name, OBJECTIVES)
    return OBJECTIVES[name]


__all__ = [
    "AWAC",
    "BCQ",
    "FAS",
    "IQL",
    "OBJECTIVES",
    "AWACSettings",
    "BCQSettings",
    "BraVE",
    "BraVESettings",
    "FASSettings",
    "IQLSettings",
    "Info",
    "Objective",
    "ObjectiveSettings",
    "PolicyObjective",
    "get_objective",
]
