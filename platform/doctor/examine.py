"""All checks of this machine.

Every check is a function that returns a finding and never raises, because broken machines are what they are for. So
this module imports no Ray: a machine whose Ray is broken is examined, too.
"""

from collections.abc import Iterator

from spin_rl.platform.common.findings import Finding
from spin_rl.platform.common.pins import PINS
from spin_rl.platform.doctor.machine import check_gpu, check_mujoco, check_python, check_rendering, check_versions
from spin_rl.platform.doctor.services import check_registry, check_tracking
from spin_rl.platform.doctor.storage import check_disk, check_writable


def examine_machine(*, storage: str, data: str, tracking_uri: str) -> Iterator[Finding]:
    """Findings about this machine, in the order in which to fix them.

    Args:
        storage: where results go, a folder or any fsspec location.
        data: where datasets are, likewise.
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
