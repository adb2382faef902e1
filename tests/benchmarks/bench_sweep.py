"""What a sweep costs beside the work itself: Tune and tracking on a trial, evaluation's share, trivial trials a minute.

A trial alone is the same algorithm stepped in this process by a plain loop, without Tune, files, checkpoints or MLflow.
"""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import ray

from spin_rl.algorithms.rllib.algorithm import OfflineAlgorithm
from spin_rl.envs import get_task
from spin_rl.platform.asm_store.store import asm_root
from spin_rl.platform.common.json_files import read_json
from spin_rl.platform.common.ray_session import ray_session
from spin_rl.platform.datasets.collect import make_dataset
from spin_rl.platform.results.files import read_sweep
from spin_rl.platform.tracking.store import default_tracking_uri
from spin_rl.sweeps.planning.plan import SweepPlan
from spin_rl.sweeps.planning.space import Space
from spin_rl.sweeps.planning.sweep import Sweep
from spin_rl.sweeps.run import run_plan

TRIVIAL = 60
COMMON = {"bins": (3,), "level": ("medium-expert",), "objective": ("iql",), "asm_steps": (50,)}
LONG: Space = {
    **COMMON,
    "task": ("cheetah-run",),
    "algorithm": ("spin",),
    "seed": (0,),
    "preset": ("small",),
    "updates": (2000,),
    "evaluations": (4,),
    "episodes": (5,),
}
SHORT: Space = {
    **COMMON,
    "task": ("maze-5",),
    "bins": (2,),
    "algorithm": ("factored",),
    "seed": tuple(range(TRIVIAL)),
    "preset": ("tiny",),
    "updates": (1,),
    "evaluations": (1,),
    "episodes": (1,),
}


def plan_of(name: str, space: Space, root: Path) -> SweepPlan:
    task = get_task(space["task"][0], space["bins"][0])
    made = make_dataset(task, space["level"][0], 20_000, root=str(root / "data"), workers=0)
    assert made.metadata.transitions
    return Sweep(name, "", space).plan(space, str(root / "data"), asm_root(root))


def run(plan: SweepPlan, storage: Path) -> Path:
    return run_plan(plan, storage, tracking_uri=default_tracking_uri(storage))


def alone(plan: SweepPlan) -> float:
    """Seconds from the first result to the last of the plan's trial, alone."""
    config = OfflineAlgorithm.get_default_config()
    config.update_from_dict({"trial": dict(plan.trials[0]), "log_level": "ERROR"})
    algorithm = config.build_algo()
    algorithm.train()
    started = time.perf_counter()
    while algorithm.train()["updates"] < plan.trials[0]["updates"]:
        pass
    seconds = time.perf_counter() - started
    algorithm.stop()
    return seconds


def main() -> None:
    with TemporaryDirectory() as folder, ray_session(cpus=2):
        root = Path(folder)
        plan = plan_of("long", LONG, root)
        results = read_sweep(run(plan, root))
        stamps = results.metrics["timestamp"]
        tuned = float(stamps.iloc[-1] - stamps.iloc[0])
        before = alone(plan)
        trial = results.trials.iloc[0]
        last = results.metrics.iloc[-1]
        evaluation, training = last["time/evaluation_seconds"], last["time/train_seconds"]
        share, start = evaluation / (evaluation + training), stamps.iloc[0] - trial["started"]
        print(f"a trial of {plan.trials[0]['updates']:,} updates, first result to last: {tuned:.1f} s in a sweep,")
        print(f"{before:.1f} s alone: {tuned / before - 1:+.1%} (aim: at most 5 %)")
        print(f"before its first result, the worker's start and the first evaluation: {start:.1f} s")
        print(f"evaluation: {evaluation:.1f} s beside {training:.1f} s of training, {share:.1%} of both")

        plan = plan_of("short", SHORT, root)
        started = time.perf_counter()
        place = run(plan, root)
        whole = time.perf_counter() - started
        ends = sorted(read_json(path)["ended"] for path in place.glob("trials/*/trial.json"))
        pace = (len(ends) - 2) / (ends[-1] - ends[1]) * 60
        print(f"{TRIVIAL} trivial trials: {whole:.1f} s, start and end of the sweep included; once the workers are up")
        print(f"{pace:.0f} trials a minute on {ray.cluster_resources()['CPU']:g} CPUs (aim: 100)")


if __name__ == "__main__":
    main()
