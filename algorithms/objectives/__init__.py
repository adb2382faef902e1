"""Offline objectives: IQL."""

from spin_rl.algorithms.objectives.iql import IQL, IQLSettings

__all__ = ["IQL", "IQLSettings"]
