"""Policies over joint actions: factored, autoregressive, SAINT and SPIN."""

from spin_rl.algorithms.policies.autoregressive import AutoregressivePolicy
from spin_rl.algorithms.policies.base import FactorisedPolicy, Policy
from spin_rl.algorithms.policies.factored import FactoredPolicy
from spin_rl.algorithms.policies.slots import SlotPolicy

__all__ = ["AutoregressivePolicy", "FactoredPolicy", "FactorisedPolicy", "Policy", "SlotPolicy"]
