"""Ray for one command: the cluster that RAY_ADDRESS names, or a local one that ends with the command."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# No session runs without its token, whatever the version's default; a worker has no use for a renderer.
if "ray" not in sys.modules:  # it has read its settings already, and sets this one itself
    os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Tune's newer output prints its tables even when it is told to be quiet; ours shows the progress.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")


@contextmanager
def ray_session(cpus: int | None = None) -> Iterator[None]:
    """Connect to ``RAY_ADDRESS`` where it is set; otherwise start Ray on this machine for as long as this lasts.

    Args:
        cpus: CPUs of a local session; all of the machine's by default.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False, logging_level="error")
    else:
        ray.init(
            address="local",
            num_cpus=cpus or os.cpu_count(),
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
        )
    try:
        yield
    finally:
        ray.shutdown()
