"""The sweeps by name; a user's own is a Python file given by its path, which defines ``SWEEP``."""

import runpy
from importlib import import_module
from pathlib import Path

from spin_rl.errors import UserError, unknown_name
from spin_rl.sweeps.planning.sweep import Sweep

SWEEPS = ("pretraining-length", "head-size", "stop-time", "masking", "baselines")
"""Each is the module of its name, with underscores, and defines ``SWEEP``."""


def get_sweep(name: str) -> Sweep:
    """The sweep called ``name``, or the one that the file ``name`` defines.

    Raises:
        UserError: there is no such sweep, or the file defines none.
    """
    if name in SWEEPS:
        return import_module(f"spin_rl.sweeps.{name.replace('-', '_')}").SWEEP
    if not name.endswith(".py"):
        raise unknown_name("sweep", name, (*SWEEPS, "or a Python file that defines SWEEP"))
    if not Path(name).is_file():
        raise UserError(f"There is no file {name}; give the path of a Python file that defines SWEEP.")
    try:
        found = runpy.run_path(name).get("SWEEP")
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{name} cannot be run ({type(error).__name__}: {error}); mend it and try again.") from error
    if not isinstance(found, Sweep):
        raise UserError(f"{name} defines no SWEEP; it needs the line SWEEP = Sweep(...).")
    return found
