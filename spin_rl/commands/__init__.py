"""The commands of ``spin-rl``: each module parses arguments, calls `spin_rl.api` and prints what came of it."""

# Ray reads its settings when it is imported, and command modules import it: this sets them before any of them does.
from spin_rl.platform.common import ray_session  # noqa: F401
