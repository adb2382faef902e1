"""Policies over joint actions: each in a module of its own, built by its ``from_preset``."""

from spin_rl.algorithms.policies.base import FactorisedPolicy, Policy

__all__ = ["FactorisedPolicy", "Policy"]
