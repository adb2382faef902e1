"""The problems: task catalogue, gymnasium environments, behaviour policies."""

from spin_rl.envs import cone as cone  # these three register their tasks
from spin_rl.envs import control as control
from spin_rl.envs import maze as maze
from spin_rl.envs.catalogue import BINS, UNKNOWN, ReferenceScores, Task, get_task, nvec_of, register, tasks
from spin_rl.envs.discretize import discretize
from spin_rl.envs.rollout import BatchPolicy, Episodes, rollout
from spin_rl.errors import UserError, unknown_name

__all__ = [
    "BINS",
    "UNKNOWN",
    "BatchPolicy",
    "Episodes",
    "ReferenceScores",
    "Task",
    "UserError",
    "discretize",
    "get_task",
    "nvec_of",
    "register",
    "rollout",
    "tasks",
    "unknown_name",
]
