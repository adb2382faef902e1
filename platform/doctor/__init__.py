"""Checks of a machine, of a cluster and of its nodes."""

from spin_rl.platform.common import ray_session  # noqa: F401  # sets what Ray reads while it is imported
