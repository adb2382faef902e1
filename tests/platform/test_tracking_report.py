"""What MLflow shows of a sweep: its report, its pretrainings, its data and its code."""

import json
import signal
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from spin_rl.errors import UserError
from spin_rl.platform.common.json_files import read_json, write_json
from spin_rl.platform.common.provenance import own_provenance
from spin_rl.platform.publishing.report import description, log_report, send_rest
from spin_rl.platform.reports.report import make_report
from spin_rl.platform.reports.sections import Section
from spin_rl.platform.results.files import start_sweep
from spin_rl.platform.tracking.mirror import Mirror, remember_tracking
from tests.platform.sweep_fixture import METHODS, params, write_trial

EXPERIMENT = "tests"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sweeps of SPIN on one pretrained model, one of them with a report."""
    root = tmp_path_factory.mktemp("results")
    model = root / "asm" / "cheetah-run-3" / "abc"
    write_json(model / "identity.json", {"dataset": "d" * 64, "sizes": {"width": 64}, "seed": 0})
    for step in (0, 1000):
        record = {"step": step, "bins": 3, "validation_loss": 1.0 - step / 2000, "pretrain_seconds": step / 10.0}
        write_json(model / f"step-{step:09d}" / "checkpoint.json", record)
    data = root / "data" / "cheetah-run-3" / "medium-expert-v1"
    write_json(data / "metadata.json", {"transitions": 1000, "episodes": 1, "parts": []})
    for name in ("first", "second"):
        start_sweep(
            root / name,
            name=name,
            description="Which is better?",
            command=f"spin-rl sweep {name}",
            settings={"seeds": [0]},
            methods=METHODS,
        )
        trial = params(
            "spin", 0, asm=str(model / "step-000001000"), asm_steps=1000, dataset=str(data), dataset_digest="d" * 64
        )
        write_trial(root / name, "t0", trial)
        write_trial(root / name, "t1", params("factored", 0))
        remember_tracking(root / name, f"sqlite:///{root}/mlflow.db", EXPERIMENT, {"team": "ours"})
        send_rest(root / name)
    assert log_report(make_report(root / "first"))
    return root


def told(root: Path) -> dict[str, Any]:
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    return {run.data.tags["spin_rl.key"]: run for run in client.search_runs([experiment.experiment_id])}


def key(root: Path, name: str) -> str:
    return str(read_json(root / name / "sweep.json")["id"])


@pytest.mark.integration
def test_sweeps_share_the_run_of_a_pretraining_linked_both_ways(sweep: Path) -> None:
    runs = told(sweep)
    assert len(runs) == 2 * 3 + 1
    pretraining = runs["asm/abc"]
    assert pretraining.data.tags["spin_rl.used_by.first"] == key(sweep, "first")
    assert pretraining.data.tags["spin_rl.used_by.second"] == key(sweep, "second")
    assert pretraining.data.params["sizes.width"] == "64"
    history = MlflowClient(f"sqlite:///{sweep}/mlflow.db").get_metric_history(
        pretraining.info.run_id, "pretrain/validation_loss"
    )
    assert [(point.step, point.value) for point in history] == [(0, 1.0), (1000, 0.5)]
    for name in ("first", "second"):
        link = runs[f"{key(sweep, name)}/t0"].data.tags["spin_rl.pretraining_run"]
        assert link == pretraining.info.run_id
        assert "spin_rl.pretraining_run" not in runs[f"{key(sweep, name)}/t1"].data.tags


@pytest.mark.integration
def test_a_run_tells_its_data_its_code_and_the_command_that_repeats_it(sweep: Path) -> None:
    run = told(sweep)[f"{key(sweep, 'first')}/t0"]
    dataset = run.inputs.dataset_inputs[0].dataset
    assert (dataset.name, dataset.digest) == ("cheetah-run-3/medium-expert-v1", "d" * 36)
    assert json.loads(dataset.profile)["transitions"] == 1000
    assert run.data.tags["spin_rl.command"] == "spin-rl sweep first"
    assert run.data.tags["team"] == "ours"
    code = own_provenance()["code"]
    assert run.data.tags.get("mlflow.source.git.commit") == code.get("commit")


@pytest.mark.integration
def test_the_parent_holds_the_report(sweep: Path) -> None:
    client = MlflowClient(f"sqlite:///{sweep}/mlflow.db")
    runs = told(sweep)
    parent = runs[key(sweep, "first")]
    note = parent.data.tags["mlflow.note.content"]
    assert note.startswith("**cheetah-run, 3 bins, medium-expert, IQL**, return: SPIN 5")
    assert "| SPIN | " in note
    assert "spin-rl sweep first" in note
    assert parent.data.metrics["return/SPIN"] > parent.data.metrics["return/Factored"]
    names = {file.path for file in client.list_artifacts(parent.info.run_id, "report")}
    assert {"report/report.html", "report/learning-curves.png", "report/table.csv"} <= names
    assert not (Path.cwd() / "mlruns").exists()
    # What was sent before stays as it is when the sweep is synced again.
    send_rest(sweep / "first")
    assert told(sweep)[key(sweep, "first")].data.tags["mlflow.note.content"] == note


def test_a_report_of_an_untracked_sweep_needs_no_mlflow(tmp_path: Path) -> None:
    start_sweep(tmp_path, name="s")
    write_trial(tmp_path, "t0", params("spin", 0))
    assert not log_report(make_report(tmp_path))
    with pytest.raises(UserError, match="never tracked"):
        send_rest(tmp_path)


def test_a_long_description_keeps_its_answers_and_leaves_tables_out(tmp_path: Path) -> None:
    start_sweep(tmp_path, name="s", command="spin-rl sweep long")
    write_trial(tmp_path, "t0", params("spin", 0))
    rows = pd.DataFrame({"steps": [str(step) for step in range(2000)]})
    section = Section("How long?", "Longer.", {"short": rows[:3], "long": rows})
    note = description(replace(make_report(tmp_path), sections=[section]))
    assert len(note) <= 8000  # MLflow takes no more
    assert "Longer." in note
    assert "**short**" in note
    assert "**long**" not in note
    assert "spin-rl sweep long" in note


def test_a_store_that_cannot_be_had_is_one_sentence(tmp_path: Path) -> None:
    start_sweep(tmp_path, name="s")
    remember_tracking(tmp_path, "http://127.0.0.1:9", EXPERIMENT, {})  # the port of nobody
    with pytest.raises(UserError, match="is not available"):
        send_rest(tmp_path)
    Mirror(tmp_path, "http://127.0.0.1:9", EXPERIMENT)


@pytest.mark.integration
def test_ui_serves_the_store_on_loopback_and_ends_with_its_server(sweep: Path) -> None:
    command = [sys.executable, "-m", "spin_rl", "ui", "--storage", str(sweep), "--port", "0"]
    ui = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert ui.stdout is not None
        line = next(line for line in ui.stdout if "http" in line)
        address = next(word for word in line.split() if word.startswith("http://127.0.0.1:"))
        assert "/#/experiments/" in address
        assert "viewStateShareKey=spin-rl" in address  # the view that shows returns, which the experiment carries
        with urllib.request.urlopen(address.split("/#")[0], timeout=30) as page:
            assert b"MLflow" in page.read()
    finally:
        ui.send_signal(signal.SIGINT)
        assert ui.wait(30) == 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(address.split("/#")[0], timeout=5)
