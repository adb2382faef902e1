"""Policies over joint actions: factored, autoregressive, SAINT, SPIN and what comes of SPIN."""

from spin_rl.algorithms.policies.autoregressive import AutoregressivePolicy
from spin_rl.algorithms.policies.base import FactorisedPolicy, Policy
from spin_rl.algorithms.policies.constant import CachedPolicy, ConstantFeaturesPolicy, DistilledPolicy
from spin_rl.algorithms.policies.factored import FactoredPolicy
from spin_rl.algorithms.policies.slots import SlotPolicy

__all__ = [
    "AutoregressivePolicy",
    "CachedPolicy",
    "ConstantFeaturesPolicy",
    "DistilledPolicy",
    "FactoredPolicy",
    "FactorisedPolicy",
    "Policy",
    "SlotPolicy",
]
