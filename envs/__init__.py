"""The problems: task catalogue, gymnasium environments, behaviour policies."""

from spin_rl.envs import control as control  # registers the DM Control tasks
from spin_rl.envs.catalogue import BINS, ReferenceScores, Task, get_task, nvec_of, register, tasks
from spin_rl.envs.errors import UserError, unknown_name
from spin_rl.envs.rollout import BatchPolicy, Episodes, rollout

__all__ = [
    "BINS",
    "BatchPolicy",
    "Episodes",
    "ReferenceScores",
    "Task",
    "UserError",
    "get_task",
    "nvec_of",
    "register",
    "rollout",
    "tasks",
    "unknown_name",
]
