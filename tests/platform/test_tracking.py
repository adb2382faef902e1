"""A real Tune run with our callbacks, mirrored to a real MLflow store."""

import json
from pathlib import Path
from typing import Any

import pytest
import ray
from mlflow import MlflowClient
from ray import tune
from ray.tune.schedulers import FIFOScheduler

from spin_rl.errors import UserError
from spin_rl.platform.results.files import MetricsFile, read_sweep, start_sweep
from spin_rl.platform.tracking.callback import MLflowCallback, sweep_callbacks
from spin_rl.platform.tracking.mirror import Mirror
from spin_rl.platform.tracking.run import safe_key
from tests.platform import sweep_fixture
from tests.platform.sweep_fixture import PRETRAIN, Trivial, curve, describe, params, write_trial

EXPERIMENT = "tests"


class Pruner(FIFOScheduler):
    """Stops seed 1 after 400 updates, as ASHA would."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        prune = trial.config["seed"] == 1 and result["updates"] >= 400
        return self.STOP if prune else self.CONTINUE


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three trials, one finished, one pruned, one failed; then restored, where the failed one goes on to its end."""
    root = tmp_path_factory.mktemp("results")
    folder = root / "swéep 1"
    start_sweep(folder, name="swéep 1", description="A **test**.", settings={"seeds": [0, 1, 2]})
    ray.cloudpickle.register_pickle_by_value(sweep_fixture)
    ray.init(address="local", include_dashboard=False, num_cpus=2, log_to_driver=False)
    (root / "broken").touch()
    try:
        tuner = tune.Tuner(
            Trivial,
            param_space={
                "algorithm": "spin",
                "seed": tune.grid_search([0, 1, 2]),
                "fails_at": tune.sample_from(lambda config: 600 if config["seed"] == 2 else None),
                "while": str(root / "broken"),
            },
            tune_config=tune.TuneConfig(scheduler=Pruner()),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(folder),
                stop={"updates": 1000},
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=3),
                callbacks=sweep_callbacks(
                    folder, describe, tracking_uri=f"sqlite:///{root}/mlflow.db", experiment=EXPERIMENT
                ),
            ),
        )
        tuner.fit()
        states.append(read_sweep(folder).trials.set_index("seed")["state"].to_dict())
        runs.append({run.info.run_id for run in runs_of(folder).values()})
        (root / "broken").unlink()
        tune.Tuner.restore(str(folder / "tune"), Trivial, resume_errored=True).fit()
    finally:
        ray.shutdown()
    return folder


states: list[dict[int, str]] = []
runs: list[set[str]] = []


def client_of(folder: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{folder.parent}/mlflow.db")


def runs_of(folder: Path) -> dict[str, Any]:
    client = client_of(folder)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    return {run.data.params.get("seed", "parent"): run for run in client.search_runs([experiment.experiment_id])}


def history(folder: Path, run: Any, name: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client_of(folder).get_metric_history(run.info.run_id, name)]


@pytest.mark.integration
def test_files_tell_every_trials_state_and_curve(sweep: Path) -> None:
    assert states == [{0: "finished", 1: "pruned", 2: "failed"}]
    results = read_sweep(sweep)
    assert results.record["state"] == "finished"
    trials = results.trials.reset_index().set_index("seed")
    assert trials["state"].to_dict() == {0: "finished", 1: "pruned", 2: "finished"}
    for seed, last in {0: 1000, 1: 400, 2: 1000}.items():
        lines = results.metrics[results.metrics["trial_id"] == trials.loc[seed, "trial_id"]]
        assert lines["updates"].tolist() == list(range(0, last + 1, 100))
        assert lines["eval/return_mean"].tolist() == [curve("spin", seed, at) for at in lines["eval/updates"]]


@pytest.mark.integration
def test_mlflow_has_a_parent_and_a_child_for_each_trial_with_true_ends(sweep: Path) -> None:
    told = runs_of(sweep)
    assert set(told) == {"parent", "0", "1", "2"}
    parent = told.pop("parent")
    assert parent.info.run_name == "swéep 1"
    assert parent.data.tags["mlflow.note.content"].startswith("A **test**.")
    assert {run.data.tags["mlflow.parentRunId"] for run in told.values()} == {parent.info.run_id}
    ends = {seed: (run.info.status, run.data.tags["spin_rl.state"]) for seed, run in told.items()}
    assert ends == {"0": ("FINISHED", "finished"), "1": ("KILLED", "pruned"), "2": ("FINISHED", "finished")}
    assert told["0"].info.run_name == "spin seed 0 cheetah-run-3 medium-expert iql"
    assert told["0"].data.params["level"] == "medium-expert"


@pytest.mark.integration
def test_a_restored_sweep_goes_on_in_its_runs_and_doubles_no_value(sweep: Path) -> None:
    told = runs_of(sweep)
    assert {run.info.run_id for run in told.values()} == runs[0]
    for seed, last in {0: 1000, 1: 400, 2: 1000}.items():
        run = told[str(seed)]
        assert [step for step, _ in history(sweep, run, "time/total_seconds")] == list(range(0, last + 1, 100))
        # An evaluation stands once, at the update that it was made at.
        assert history(sweep, run, "eval/return_mean") == [
            (at, curve("spin", seed, at)) for at in range(0, last + 1, 200)
        ]
    names = set(told["0"].data.metrics)
    assert {"train/critic_loss", "eval/normalized_score", "perf/updates_per_second"} <= names
    assert all(name.split("/")[0] in ("eval", "train", "time", "perf", "system") for name in names)
    assert told["0"].data.metrics["time/pretrain_seconds"] == PRETRAIN["spin"]


@pytest.mark.integration
def test_a_mirror_that_starts_over_changes_nothing(tmp_path: Path) -> None:
    start_sweep(tmp_path / "s", name="s")
    write_trial(tmp_path / "s", "t0", params("spin", 0))
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    Mirror(tmp_path / "s", uri, EXPERIMENT).sync()
    before = {name: history(tmp_path / "s", runs_of(tmp_path / "s")["0"], name) for name in ("train/critic_loss",)}
    assert len(before["train/critic_loss"]) == 11

    # The process died after MLflow took the values and before it noted so.
    note = tmp_path / "s" / "trials" / "t0" / "mlflow.json"
    note.write_text(
        note.read_text().replace('"offset": ', '"offset": 0, "was": ').replace('"step": ', '"step": -1, "w": ')
    )
    MetricsFile(tmp_path / "s" / "trials" / "t0" / "metrics.jsonl").append(
        {"updates": 1100, "timestamp": 2e9, "train/critic_loss": 0.5}
    )
    Mirror(tmp_path / "s", uri, EXPERIMENT).sync()
    after = history(tmp_path / "s", runs_of(tmp_path / "s")["0"], "train/critic_loss")
    assert after == [*before["train/critic_loss"], (1100, 0.5)]

    # It died after MLflow made the run and before its id was noted.
    note.write_text(json.dumps({"tracking_uri": uri, "creating": True}))
    Mirror(tmp_path / "s", uri, EXPERIMENT).sync()
    assert set(runs_of(tmp_path / "s")) == {"parent", "0"}
    assert history(tmp_path / "s", runs_of(tmp_path / "s")["0"], "train/critic_loss") == after

    # An experiment that was deleted is named, with the command that brings it back.
    client = client_of(tmp_path / "s")
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    with pytest.raises(UserError, match="mlflow experiments restore"):
        Mirror(tmp_path / "s", uri, EXPERIMENT).sync()


def test_names_that_mlflow_refuses_are_rewritten() -> None:
    assert safe_key("größe (m)/x") == "gr__e _m_/x"


def test_a_callback_never_raises_into_tune(tmp_path: Path) -> None:
    callback = MLflowCallback(tmp_path / "none", "sqlite:////proc/no/mlflow.db", EXPERIMENT, flush_seconds=0.5)
    callback.setup()
    callback.on_trial_result(trial=object(), result={})  # type: ignore[arg-type]  # no trial at all
    callback.on_experiment_end(trials=[])
