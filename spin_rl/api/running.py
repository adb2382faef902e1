"""Plans: run or resumed on Ray, then reported. `train`, `sweep` and `quickstart` all end here."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spin_rl.api.reports import analysis_of
from spin_rl.platform.common.ray_session import ray_session
from spin_rl.platform.publishing.report import log_report
from spin_rl.platform.reports.report import Report, make_report
from spin_rl.platform.reports.sections import Analysis
from spin_rl.platform.results.files import read_sweep
from spin_rl.platform.tracking.store import default_tracking_uri
from spin_rl.sweeps.planning.plan import SweepPlan
from spin_rl.sweeps.run import run_plan
from spin_rl.sweeps.running.completion import is_complete
from spin_rl.sweeps.running.opening import open_sweep
from spin_rl.sweeps.running.trained_policies import TrainedPolicy, find_policies


@dataclass(frozen=True)
class SweepRun:
    """What running a plan left.

    Attributes:
        plan: what was run.
        folder: the sweep's folder: results, checkpoints and report.
        report: its tables and figures; ``report.page`` is the page.
        complete: whether every trial came to its end. Tune ends quietly after Ctrl-C, and after the last attempt of a
            trial that fails.
        failures: the last line of each failed trial's error.
    """

    plan: SweepPlan
    folder: Path
    report: Report
    complete: bool
    failures: tuple[str, ...]

    @property
    def trials(self) -> list[TrainedPolicy]:
        """The trials that left a checkpoint; UserError where none has yet."""
        return find_policies(str(self.folder), self.folder.parent)


def run_and_report(
    plan: SweepPlan,
    storage: Path,
    *,
    tracking_uri: str | None = None,
    analysis: Analysis | None = None,
    **options: Any,
) -> SweepRun:
    """Run or resume a plan, make its report and log it to MLflow. A plan that is complete starts no Ray.

    Args:
        plan: what to run.
        storage: absolute path of the results.
        tracking_uri: MLflow's store; the storage's own by default.
        analysis: the sweep's own part of the report; that of the sweep that the plan names by default.
        **options: of `spin_rl.sweeps.run.run_plan`.

    Raises:
        UserError: the plan's folder holds another sweep, a trial fits on no node, or no trial was evaluated.
    """
    uri = tracking_uri or default_tracking_uri(storage)
    folder = open_sweep(plan, storage)
    if not is_complete(folder, plan):
        with ray_session():
            run_plan(plan, storage, tracking_uri=uri, **options)
    report = make_report(folder, analysis or analysis_of(folder, plan.sweep or None))
    log_report(report)
    trials = read_sweep(folder).trials
    errors = trials[trials["state"] == "failed"]["error"]
    return SweepRun(
        plan=plan,
        folder=folder,
        report=report,
        complete=is_complete(folder, plan),
        failures=tuple(str(error).strip().splitlines()[-1] for error in errors),
    )
