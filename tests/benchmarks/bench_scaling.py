"""What a sweep of many trials costs its driver: trivial trials through the real engine, callbacks, files and MLflow.

    python tests/benchmarks/bench_scaling.py --trials 1000

Seconds are of the driver's processor, not of the wall: other work on the machine stretches them less.
"""

import argparse
import json
import logging
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import ray
import torch
from harness import make_random_dataset
from ray import tune
from ray.tune.execution.tune_controller import TuneController

from spin_rl.algorithms.asm.files import load_asm
from spin_rl.algorithms.asm.pretraining import ASMConfig
from spin_rl.algorithms.presets import get_preset
from spin_rl.algorithms.pretraining.checkpoints import ensure_pretrained
from spin_rl.algorithms.rllib.algorithm import ANY_METHOD
from spin_rl.platform.asm_store.store import ASMStore
from spin_rl.platform.common.ray_session import ray_session
from spin_rl.platform.results.callback import ResultsCallback
from spin_rl.platform.tracking.mirror import Mirror
from spin_rl.sweeps.planning.datasets import open_by_path
from spin_rl.sweeps.planning.plan import SweepPlan
from spin_rl.sweeps.running import engine
from spin_rl.sweeps.running.newest_checkpoint import NewestCheckpoint
from spin_rl.sweeps.running.progress import SweepProgress, TrialProgress

REPORTS, FURTHER = 2, 20
"""Results of a trial, and how many more the runs have that tell what one result costs."""
AT_ONCE = 4
TRIAL = {
    **{"algorithm": "spin", "objective": "iql", "task": "cheetah-run", "bins": 3, "level": "medium", "preset": "small"},
    **{"dataset_digest": "0" * 64, "environment": "spin_rl/cheetah-run-3-v0", "asm_steps": 1000, "evaluate_every": 1},
}


class Trivial(tune.Trainable):
    """A trial that computes nothing: its results are as large as a real one's, its checkpoint is one number."""

    def setup(self, config: dict[str, Any]) -> None:
        self._updates = 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._updates = 0
        return True

    def step(self) -> dict[str, Any]:
        self._updates += 1
        returns = {"updates": self._updates, "return_mean": 1.0, "return_std": 1.0, "normalized_score": 1.0}
        return {
            "updates": self._updates,
            "eval": returns,
            "train": {"critic_loss": 1.0, "value_loss": 1.0, "actor_loss": 1.0},
            "time": {"pretrain_seconds": 1.0, "train_seconds": 1.0, "total_seconds": 2.0},
            "perf": {"updates_per_second": 1.0},
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "updates").write_text(str(self._updates))

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        self._updates = int(Path(checkpoint_dir, "updates").read_text())


class Meter:
    """Processor seconds and calls of parts of the driver, and what it does to files below a folder."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()
        self.files: Counter[str] = Counter()
        self.root: str | None = None
        sys.addaudithook(self._saw)

    def _saw(self, event: str, args: tuple[Any, ...]) -> None:
        if self.root and event in _FILE_EVENTS and args and str(args[0]).startswith(self.root):
            self.files[_FILE_EVENTS[event]] += 1

    def watch(self, name: str, owner: Any, method: str) -> None:
        """Time every call of a method under ``name``."""
        plain: Callable[..., Any] = getattr(owner, method)

        @wraps(plain)
        def timed(*args: Any, **kwargs: Any) -> Any:
            before = time.thread_time()
            try:
                return plain(*args, **kwargs)
            finally:
                self.seconds[name] += time.thread_time() - before
                self.calls[name] += 1

        setattr(owner, method, timed)

    @contextmanager
    def of(self, root: Path) -> Iterator[None]:
        """Start from nothing, and count files below ``root``."""
        self.seconds.clear(), self.calls.clear(), self.files.clear()
        self.root = str(root)
        yield
        self.root = None


_FILE_EVENTS = {"open": "open", "os.rename": "rename", "os.mkdir": "mkdir", "os.listdir": "list", "os.scandir": "list"}


class Run:
    """One sweep of trivial trials and what it cost."""

    def __init__(self, meter: Meter, trials: int, reports: int) -> None:
        plan = SweepPlan(
            "scaling",
            "Trivial trials.",
            tuple({**TRIAL, "seed": seed, "updates": reports} for seed in range(trials)),
        )
        with TemporaryDirectory() as root, meter.of(Path(root)):
            uri = f"sqlite:///{root}/mlflow.db"
            wall, processor = time.perf_counter(), time.process_time()
            folder = engine.run_grid(plan, Path(root), tracking_uri=uri)
            self.wall, self.driver = time.perf_counter() - wall, time.process_time() - processor
            finished = sum(
                json.loads(path.read_text())["state"] == "finished" for path in folder.glob("trials/*/trial.json")
            )
            assert finished == trials, f"{finished} of {trials} trials finished"
            self.trials, self.reports = trials, reports
            self.seconds, self.calls, self.files = dict(meter.seconds), Counter(meter.calls), Counter(meter.files)
            written = [path for path in folder.rglob("*") if path.is_file()]
            self.written, self.size = len(written), sum(path.stat().st_size for path in written)
            self.snapshot = max(path.stat().st_size for path in (folder / "tune").glob("experiment_state*"))
            self.database = Path(f"{root}/mlflow.db").stat().st_size

    def tune_seconds(self) -> float:
        """The driver without what is listed on its own."""
        return self.driver - sum(self.seconds.values())

    def print(self) -> None:
        each = 1e3 / self.trials
        parts = ", ".join(f"{name} {spent * each:.1f}" for name, spent in self.seconds.items())
        print(
            f"{self.trials} trials with {self.reports} results: {self.wall:.0f} s; driver {self.driver * each:.1f} ms"
            f" a trial: {parts}, the rest of Tune {self.tune_seconds() * each:.1f}"
        )
        shots = max(1, self.calls["snapshots"])
        print(
            f"  {shots} snapshots of the experiment, {self.seconds['snapshots'] / shots * 1e3:.0f} ms each;"
            f" the last {self.snapshot / 2**20:.2f} MiB, {self.snapshot / self.trials / 1024:.1f} KiB a trial"
        )
        operations = ", ".join(f"{count / self.trials:.1f} {name}" for name, count in sorted(self.files.items()))
        print(
            f"  the driver's file operations a trial (Python's): {operations}; left behind a trial:"
            f" {self.written / self.trials:.1f} files, {self.size / self.trials / 1024:.1f} KiB;"
            f" MLflow's database {self.database / self.trials / 1024:.1f} KiB",
            flush=True,
        )


def bench_driver(trials: int) -> None:
    """Three sweeps: one of few trials, one of few with many results, one of all."""
    meter = Meter()
    meter.watch("snapshots", TuneController, "save_to_dir")
    meter.watch("MLflow", Mirror, "sync")
    for method in ("on_trial_start", "on_trial_result", "on_trial_complete", "on_experiment_end"):
        meter.watch("results' files", ResultsCallback, method)
    for method in ("on_trial_start", "on_trial_result", "on_trial_complete"):
        meter.watch("progress", TrialProgress, method)
    meter.watch("earlier checkpoints", NewestCheckpoint, "on_checkpoint")
    engine.register_algorithms = lambda: tune.register_trainable(ANY_METHOD, _with_share(Trivial))  # type: ignore[assignment]
    engine.SweepProgress = QuietProgress  # type: ignore[misc]
    few, fewer = max(20, trials // 10), 20
    with ray_session(cpus=2):
        Run(meter, AT_ONCE, REPORTS)  # imports and the first processes
        small, long = Run(meter, few, REPORTS), Run(meter, fewer, REPORTS + FURTHER)
        small.print(), long.print()
        whole = Run(meter, trials, REPORTS)
        whole.print()
        for server in psutil.process_iter(["name"]):
            if server.info["name"] in ("gcs_server", "raylet") and server.ppid() == psutil.Process().pid:
                used = server.cpu_times()
                print(f"Ray's {server.name()}: {used.user + used.system:.1f} s of processor over all of this")
    for name in (*whole.seconds, "the rest of Tune"):
        spent = {
            run: run.tune_seconds() if name == "the rest of Tune" else run.seconds[name] for run in (small, long, whole)
        }
        further = (spent[long] - fewer * spent[small] / few) / (fewer * FURTHER)
        print(
            f"{name}: {further * 1e3:.2f} ms a further result; a trial costs {spent[whole] / trials * 1e3:.1f} ms among"
            f" {trials}, {spent[small] / few * 1e3:.1f} ms among {few}"
        )


class QuietProgress(SweepProgress):
    """Shows nothing, and costs what showing costs."""

    def __init__(self) -> None:
        super().__init__()
        self.console.quiet = True


def _with_share(trainable: type) -> Any:
    return tune.with_resources(trainable, {"cpu": 2 / AT_ONCE})


def bench_store() -> None:
    """The store of action structure models: what a trial asks of it."""
    torch.set_num_threads(1)
    with TemporaryDirectory() as root:
        dataset = open_by_path(make_random_dataset(Path(root), "cheetah-run", 4000))
        store, config = ASMStore(Path(root) / "asm"), ASMConfig(sizes=get_preset("small").asm)
        (made,) = ensure_pretrained(store, dataset, config, (1,))
        meter, rounds = Meter(), 20
        for what, ask in (
            ("found", lambda: ensure_pretrained(store, dataset, config, (1,))),
            ("loaded", lambda: load_asm(Path(made.path))),
        ):
            with meter.of(Path(root) / "asm"):
                before = time.process_time()
                for _ in range(rounds):
                    ask()
                spent = (time.process_time() - before) / rounds
                files = ", ".join(f"{count / rounds:.0f} {name}" for name, count in sorted(meter.files.items()))
            print(f"an action structure model {what}: {spent * 1e3:.1f} ms; {files}", flush=True)
        size = sum(path.stat().st_size for path in Path(made.path).rglob("*"))
        print(f"a checkpoint of it: {size / 2**20:.1f} MiB (preset small)")


def bench_listing(trials: int) -> None:
    """What MLflow's thread looks through at every round: the folders of all trials."""
    with TemporaryDirectory() as root:
        for index in range(trials):
            (Path(root) / "trials" / f"t{index}").mkdir(parents=True)
            (Path(root) / "trials" / f"t{index}" / "trial.json").touch()
        before = time.process_time()
        assert len(list(Path(root).glob("trials/*/trial.json"))) == trials
        print(f"the folders of {trials} trials listed: {(time.process_time() - before) * 1e3:.0f} ms (local disk)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=60, help="trials of the largest sweep")
    trials = parser.parse_args().trials
    logging.disable(logging.WARNING)
    bench_store()
    bench_listing(10_000)
    bench_driver(trials)
    assert not ray.is_initialized()


if __name__ == "__main__":
    main()
