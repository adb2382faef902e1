"""The Python door: what the commands do, with typed arguments and results.

A notebook and the command line do the same thing: equal arguments give the same datasets, models, trials and folders,
and each resumes what the other began. ::

    from spin_rl import api

    api.make_dataset("cheetah-run", "medium-expert", 20_000)
    trained = api.train("spin", "cheetah-run", "medium-expert", seeds=(0, 1), updates=2000)
    trained.report.table
    api.evaluate(trained, episodes=50)

Everywhere: ``root`` is where datasets lie (default: ``SPIN_RL_DATA``, else ``./data``), ``storage`` where results go
(default: ``SPIN_RL_STORAGE``, else ``./results``); what a caller can fix raises `spin_rl.errors.UserError`, one
sentence that names the thing and the fix. Importing this package imports Ray and PyTorch; ``import spin_rl`` does not.
"""

# Ray reads its settings when it is imported, and the modules below import it: this sets them before any of them does.
from spin_rl.platform.common import ray_session  # noqa: F401

# isort: split
from spin_rl.algorithms.asm.masking import Masking
from spin_rl.api.behaviour import ship_behaviour, train_behaviour
from spin_rl.api.datasets import make_dataset
from spin_rl.api.evaluation import TrialEvaluation, evaluate
from spin_rl.api.pretraining import pretrain
from spin_rl.api.reports import Promotion, promote, report, sync
from spin_rl.api.running import SweepRun
from spin_rl.api.sweeps import plan_sweep, quickstart, run_plan, sweep
from spin_rl.api.training import train
from spin_rl.platform.asm_store.store import ASMCheckpoint
from spin_rl.platform.datasets.collect import MadeDataset
from spin_rl.platform.reports.report import Report
from spin_rl.sweeps.planning.plan import SweepPlan
from spin_rl.sweeps.planning.sweep import Sweep
from spin_rl.sweeps.running.trained_policies import TrainedPolicy

__all__ = [
    "ASMCheckpoint",
    "MadeDataset",
    "Masking",
    "Promotion",
    "Report",
    "Sweep",
    "SweepPlan",
    "SweepRun",
    "TrainedPolicy",
    "TrialEvaluation",
    "evaluate",
    "make_dataset",
    "plan_sweep",
    "pretrain",
    "promote",
    "quickstart",
    "report",
    "run_plan",
    "ship_behaviour",
    "sweep",
    "sync",
    "train",
    "train_behaviour",
]
