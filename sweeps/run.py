"""Run any sweep's plan: the one entry for commands and for Python."""

from pathlib import Path

from spin_rl.sweeps.planning.plan import SweepPlan
from spin_rl.sweeps.running.engine import run_grid
from spin_rl.sweeps.running.resources import TrialResources
from spin_rl.sweeps.search.sweep_search import run_search


def run_plan(
    plan: SweepPlan,
    storage: Path,
    *,
    tracking_uri: str,
    study_storage: str | None = None,
    cpus_per_trial: int = 1,
    gpus_per_trial: float = 0,
) -> Path:
    """Run a plan to its end, or resume it; returns the sweep's folder. Ray must be up.

    Args:
        plan: what to run.
        storage: where results are stored.
        tracking_uri: MLflow's store.
        study_storage: address of the database for a search's studies; a SQLite file in the storage by default. Plans
            that run their whole space have no studies.
        cpus_per_trial: CPUs of each trial, which are also the threads it computes with.
        gpus_per_trial: GPUs of each trial; a fraction where several share one.

    Raises:
        UserError: the folder holds a sweep with other settings, no node of the cluster has room for a trial, another
            process runs the sweep, or the studies' database does not answer.
    """
    resources = TrialResources(cpus_per_trial, gpus_per_trial)
    if plan.search:
        return run_search(plan, storage, tracking_uri=tracking_uri, study_storage=study_storage, resources=resources)
    return run_grid(plan, storage, tracking_uri=tracking_uri, resources=resources)
