"""Value decomposition (arXiv 2411.11088): DecQN and its offline relatives, which act without a policy network."""

from spin_rl.algorithms.objectives.decqn.bcq import DecQNBCQ, DecQNBCQSettings
from spin_rl.algorithms.objectives.decqn.cql import DecQNCQL, DecQNCQLSettings
from spin_rl.algorithms.objectives.decqn.decqn import DecQN, DecQNSettings
from spin_rl.algorithms.objectives.decqn.dqn_cql import DQNCQL, DQNCQLSettings
from spin_rl.algorithms.objectives.decqn.factorised_bc import FactorisedBC, FactorisedBCSettings
from spin_rl.algorithms.objectives.decqn.iql import DecQNIQL, DecQNIQLSettings
from spin_rl.algorithms.objectives.decqn.one_step import DecQNOneStep, DecQNOneStepSettings

__all__ = [
    "DQNCQL",
    "DQNCQLSettings",
    "DecQN",
    "DecQNBCQ",
    "DecQNBCQSettings",
    "DecQNCQL",
    "DecQNCQLSettings",
    "DecQNIQL",
    "DecQNIQLSettings",
    "DecQNOneStep",
    "DecQNOneStepSettings",
    "DecQNSettings",
    "FactorisedBC",
    "FactorisedBCSettings",
]
