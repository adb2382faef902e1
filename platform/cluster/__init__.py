"""Jobs on a Ray cluster: its client, what a job uploads, its log, its end."""

from spin_rl.platform.common import ray_session  # noqa: F401  # sets what Ray reads while it is imported
