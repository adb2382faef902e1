"""Clocks of a cluster's nodes."""

import time
from collections.abc import Mapping

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from spin_rl.platform.common.findings import Finding, State

_OFFSET_WARNING, _OFFSET_PROBLEM = 1.0, 30.0
"""Seconds. Leases and heartbeats in the storage compare clocks of different nodes, to tens of seconds."""


def clock_offsets(nodes: Mapping[str, str]) -> dict[str, tuple[float, float]]:
    """Seconds by which each node's clock is ahead of this one, and the uncertainty of that.

    Args:
        nodes: Ray's node id by name.
    """
    read = ray.remote(num_cpus=0, max_retries=0)(read_clock)
    offsets = {}
    for name, node_id in nodes.items():
        strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
        for _ in range(2):  # the first may have to wait for a worker
            before = time.time()
            try:
                there = ray.get(read.options(scheduling_strategy=strategy).remote(), timeout=30)
            except Exception:  # the node has died since it answered; Tune will notice
                break
            after = time.time()
            offsets[name] = (there - (before + after) / 2, (after - before) / 2)
    return offsets


def read_clock() -> float:
    """Seconds since 1970 by the clock of the node that runs this."""
    return time.time()


def judge_clocks(offsets: Mapping[str, tuple[float, float]]) -> Finding:
    """Rate the largest offset, counting only what exceeds its uncertainty."""
    sure = {name: max(0.0, abs(offset) - doubt) for name, (offset, doubt) in offsets.items()}
    worst = max(sure, key=lambda name: sure[name], default="")
    if not worst or sure[worst] < _OFFSET_WARNING:
        return Finding("clocks", State.OK, f"the nodes' agree to {max(0.01, sure.get(worst, 0.0)):.2f} s")
    state = State.PROBLEM if sure[worst] >= _OFFSET_PROBLEM else State.WARNING
    return Finding("clocks", state, f"that of {worst} is {sure[worst]:.0f} s off", "run chrony or another NTP there")
