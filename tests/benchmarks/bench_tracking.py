"""The callback's cost on a trial, values per second into MLflow, and the report of a large sweep."""

import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from spin_rl.platform.common.json_files import write_json
from spin_rl.platform.reports.report import make_report
from spin_rl.platform.results.callback import ResultsCallback
from spin_rl.platform.results.files import start_sweep
from spin_rl.platform.tracking.callback import MLflowCallback
from spin_rl.platform.tracking.client import open_client
from spin_rl.platform.tracking.mirror import Mirror

TRIALS, EVALUATIONS, RESULTS = 500, 200, 2000
ALGORITHMS = ("spin", "saint", "factored", "autoregressive")


class FakeTrial:
    """What the callbacks read of a Tune trial."""

    trial_id = "t0"
    stopping_criterion: dict[str, Any] = {}  # noqa: RUF012


def result(updates: int, value: float) -> dict[str, Any]:
    """A result as large as a real one."""
    return {
        "updates": updates,
        "eval/updates": updates,
        "eval/return_mean": value,
        "eval/return_std": 20.0,
        "eval/normalized_score": value / 6.6,
        "train/critic_loss": 1.0 / (1 + updates),
        "train/value_loss": 1.0 / (2 + updates),
        "train/actor_loss": 1.0 / (3 + updates),
        "time/pretrain_seconds": 30.0,
        "time/train_seconds": updates / 40,
        "time/total_seconds": 30 + updates / 40,
        "perf/updates_per_second": 40.0,
    }


def trial_params(index: int) -> dict[str, Any]:
    """Four methods on five tasks, 25 seeds."""
    task = ("cheetah-run", "finger-spin", "humanoid-stand", "quadruped-walk", "dog-trot")[index // 4 % 5]
    params = {"algorithm": ALGORITHMS[index % 4], "seed": index // 20, "task": task, "bins": 3}
    return params | {"level": "medium-expert", "objective": "iql", "updates": 1_000_000}


def main() -> None:
    with TemporaryDirectory() as root:
        bench_callbacks(Path(root))
    with TemporaryDirectory() as root:
        bench_report(Path(root))


def bench_callbacks(root: Path) -> None:
    folder, uri = root / "sweep", f"sqlite:///{root}/mlflow.db"
    start_sweep(folder, name="sweep")
    files, mlflow = ResultsCallback(folder, lambda _: trial_params(0)), MLflowCallback(folder, uri, "bench")
    trial: Any = FakeTrial()
    for callback in (files, mlflow):
        callback.setup()
        callback.on_trial_start(trial=trial)
    waited = time.perf_counter()
    while not (folder / "trials" / "t0" / "mlflow.json").exists():  # the store's tables are made
        time.sleep(0.1)
    print(f"a new SQLite store and its first run: {time.perf_counter() - waited:.1f} s, beside the training")
    started, spent = time.perf_counter(), []
    for updates in range(RESULTS):
        before = time.perf_counter()
        for callback in (files, mlflow):
            callback.on_trial_result(trial=trial, result=result(updates * 100, 1.0 * updates))
        spent.append(time.perf_counter() - before)
        time.sleep(0.001)
    median = float(np.median(spent))
    print(f"both callbacks on a result: median {median * 1e3:.2f} ms, 99 % {np.quantile(spent, 0.99) * 1e3:.2f} ms")
    print(f"share of a trial with a result each second: {median:.2%} (aim: at most 2 %)")
    files.on_trial_complete(trial=trial)
    files.on_experiment_end(trials=[])
    mlflow.on_experiment_end()
    values = RESULTS * (len(result(0, 0.0)) - 2)
    print(f"values into MLflow (SQLite): {values / (time.perf_counter() - started):,.0f} a second")


def bench_report(root: Path) -> None:
    folder, uri = root / "sweep", f"sqlite:///{root}/mlflow.db"
    start_sweep(folder, name="sweep")
    generator = np.random.default_rng(0)
    for index in range(TRIALS):
        params = trial_params(index)
        name = f"t{index:03d}"
        trial = {"trial_id": name, "params": params, "state": "finished", "error": None, "started": 1e9, "ended": 2e9}
        write_json(folder / "trials" / name / "trial.json", trial)
        values = 600 * (1 - np.exp(-np.arange(EVALUATIONS) / 40)) + generator.normal(0, 10, EVALUATIONS)
        lines = [{"timestamp": 1e9 + at, **result(at * 5000, float(value))} for at, value in enumerate(values)]
        (folder / "trials" / name / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    wall, processor = time.perf_counter(), time.process_time()
    report = make_report(folder)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    size = report.page.stat().st_size / 2**20
    print(
        f"report of {TRIALS} trials with {EVALUATIONS} evaluations each: {wall:.1f} s, {processor:.1f} s of processor"
    )
    print(f"(aim: under 20 s); its page: {size:.1f} MiB")
    started = time.perf_counter()
    Mirror(folder, uri, "bench").sync()
    seconds = time.perf_counter() - started
    values = TRIALS * EVALUATIONS * (len(result(0, 0.0)) - 2)
    print(f"the whole sweep into MLflow (SQLite): {seconds:.0f} s, {values / seconds:,.0f} values a second")
    client = open_client(uri)
    started = time.perf_counter()
    runs = client.search_runs([client.get_experiment_by_name("bench").experiment_id], max_results=1000)
    answer = len(json.dumps([run.to_dictionary() for run in runs])) / 2**20
    print(f"MLflow's list of its {len(runs)} runs: {time.perf_counter() - started:.1f} s, {answer:.1f} MiB")


if __name__ == "__main__":
    main()
