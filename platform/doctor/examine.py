"""What is there on this machine and on a cluster, and what is wrong with it: a list of findings, each with its mend.

Every check is a function that gives findings and never raises: a broken machine is what they are for.
"""

from collections.abc import Iterator

from spin_rl.platform.cluster.client import look, takes_jobs
from spin_rl.platform.cluster.jobs import check_through_job
from spin_rl.platform.common.findings import Finding, State
from spin_rl.platform.common.pins import PINS
from spin_rl.platform.doctor.machine import check_gpu, check_mujoco, check_python, check_rendering, check_versions
from spin_rl.platform.doctor.nodes import check_nodes, connection_error
from spin_rl.platform.doctor.services import check_registry, check_tracking
from spin_rl.platform.doctor.storage import check_disk, check_writable


def examine_machine(*, storage: str, data: str, tracking_uri: str) -> Iterator[Finding]:
    """What concerns this machine, in the order in which a person would mend it.

    Args:
        storage: where results go, a folder or any fsspec location.
        data: where datasets lie, the same.
        tracking_uri: MLflow's store.
    """
    yield check_python()
    yield check_versions(PINS)
    yield check_gpu()
    yield check_mujoco()
    yield check_rendering()
    for subject, location in (("storage", storage), ("data", data)):
        yield check_disk(subject, location)
        yield check_writable(subject, location)
    yield check_tracking(tracking_uri)
    yield check_registry()


def examine_cluster(address: str, *, storage: str | None, data: str | None) -> Iterator[Finding]:
    """What concerns a cluster and every node of it.

    Args:
        address: its job server, ``http://host:8265``: the nodes are then looked at by a job, as ``submit`` does. Or
            what ``ray.init`` takes, on a machine of the cluster itself: ``auto``, ``host:6379``.
        storage: where results go, as the nodes see it; the cluster's own ``SPIN_RL_STORAGE`` by default.
        data: where datasets lie, the same; ``SPIN_RL_DATA``.
    """
    if address == "local":
        yield Finding("Ray", State.OK, "a command starts one of its own")
        return
    if takes_jobs(address):
        client, findings = look(address)
        yield from findings
        if client is not None and not any(finding.state is State.PROBLEM for finding in findings):
            yield from check_through_job(client, storage=storage, data=data)
        return
    yield from examine_nodes(address, {"storage": storage or "results", "data": data or "data"})


def examine_nodes(address: str | None, places: dict[str, str]) -> Iterator[Finding]:
    """What the nodes of a cluster that this machine belongs to say."""
    from spin_rl.platform.common import ray_session  # noqa: F401  # makes settings that Ray reads when it is imported

    import ray  # isort: skip

    try:
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except Exception as error:  # Ray has no common class for them
        yield connection_error(error)
        return
    try:
        yield from check_nodes(places)
    finally:
        ray.shutdown()
