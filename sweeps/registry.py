"""The shipped sweeps by name; a user's own is a Python file, given by its path, that defines ``SWEEP``."""

import runpy
from collections.abc import Mapping
from pathlib import Path

from spin_rl.errors import UserError, unknown_name
from spin_rl.sweeps import baselines, head_size, masking, pretraining_length, stop_time
from spin_rl.sweeps.planning.sweep import Sweep

SWEEPS: Mapping[str, Sweep] = {
    experiment.SWEEP.name: experiment.SWEEP
    for experiment in (pretraining_length, head_size, stop_time, masking, baselines)
}


def get_sweep(name: str) -> Sweep:
    """The sweep called ``name``, or the one that the file ``name`` defines.

    Raises:
        UserError: there is no such sweep, or the file defines none.
    """
    if name in SWEEPS:
        return SWEEPS[name]
    if not name.endswith(".py"):
        raise unknown_name("sweep", name, (*SWEEPS, "or a Python file that defines SWEEP"))
    if not Path(name).is_file():
        raise UserError(f"There is no file {name}; give the path of a Python file that defines SWEEP.")
    try:
        found = runpy.run_path(name).get("SWEEP")
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{name} cannot be run ({type(error).__name__}: {error}); fix it and try again.") from error
    if not isinstance(found, Sweep):
        raise UserError(f"{name} defines no SWEEP; it needs the line SWEEP = Sweep(...).")
    return found
