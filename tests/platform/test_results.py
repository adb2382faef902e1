"""The files of a sweep: what is written is read, whatever was interrupted in between."""

import json
import math
from pathlib import Path

import pytest

from spin_rl.errors import UserError
from spin_rl.platform.common.json_files import write_json
from spin_rl.platform.results.files import MetricsFile, find_sweep, flat_metrics, folder_name, read_sweep, start_sweep
from tests.platform.sweep_fixture import params, write_trial


def test_a_line_takes_the_place_of_all_from_its_update_on(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl")
    for updates, value in [(0, 1), (100, 2), (200, 3), (300, 4), (200, 30), (300, 40)]:  # restored from update 100
        file.append({"updates": updates, "value": value})
    assert [(line["updates"], line["value"]) for line in file.read()] == [(0, 1), (100, 2), (200, 30), (300, 40)]


def test_half_a_line_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    MetricsFile(path).append({"updates": 0})
    with path.open("a") as file:
        file.write('{"updates": 100, "va')  # the process died here
    assert [line["updates"] for line in MetricsFile(path).read()] == [0]
    MetricsFile(path).append({"updates": 100})
    assert [line["updates"] for line in MetricsFile(path).read()] == [0, 100]


def test_reading_goes_on_behind_the_last_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path)
    file.append({"updates": 0})
    _, offset = file.read_from(0)
    with path.open("a") as half:
        half.write('{"updates": 1')
    assert file.read_from(offset) == ([], offset)
    with path.open("a") as rest:
        rest.write("00}\n")
    assert file.read_from(offset)[0] == [{"updates": 100}]


def test_only_the_projects_metrics_are_kept_and_they_are_finite() -> None:
    result = {
        "updates": 5,
        "eval": {"return_mean": 1.5, "curve": [1, 2]},
        "train/loss": math.inf,
        "learners": {"x": 1.0},
        "time_total_s": 3.0,
    }
    assert flat_metrics(result) == {"updates": 5, "eval/return_mean": 1.5, "train/loss": None}


def test_a_sweep_goes_on_with_its_settings_and_refuses_others(tmp_path: Path) -> None:
    first = start_sweep(tmp_path / "s", name="s", settings={"seeds": (0, 1), "task": "cheetah-run"})
    assert start_sweep(tmp_path / "s", name="s", settings={"seeds": [0, 1], "task": "cheetah-run"}) == first
    with pytest.raises(UserError, match="other settings \\(seeds\\)"):
        start_sweep(tmp_path / "s", name="s", settings={"seeds": [0], "task": "cheetah-run"})


@pytest.mark.parametrize(
    ("name", "folder"), [("a b/c", "a-b-c"), ("Länge π", "Länge-π"), ("../up", "up"), ("v1.2_x", "v1.2_x")]
)
def test_a_sweeps_folder_is_one_folder(name: str, folder: str) -> None:
    assert folder_name(name) == folder


def test_a_name_without_letters_is_refused() -> None:
    with pytest.raises(UserError, match="no letter or digit"):
        folder_name("../..")


def test_an_unknown_sweep_lists_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none at all"):
        find_sweep("x", tmp_path)
    start_sweep(tmp_path / "stop-time", name="stop-time")
    assert find_sweep("stop-time", tmp_path) == find_sweep(str(tmp_path / "stop-time"), tmp_path)
    with pytest.raises(UserError, match="Did you mean stop-time"):
        find_sweep("stoptime", tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {("no", "key"): 1})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_sweep_is_read_as_frames(tmp_path: Path) -> None:
    start_sweep(tmp_path, name="größer / kleiner")
    write_trial(tmp_path, "t0", params("spin", 0))
    write_json(
        tmp_path / "trials" / "t1" / "trial.json", {"trial_id": "t1", "params": params("spin", 1), "state": "running"}
    )
    results = read_sweep(tmp_path)
    assert results.name == "größer / kleiner"
    assert results.trials["state"].to_dict() == {"t0": "finished", "t1": "running"}
    assert results.metrics["updates"].tolist() == list(range(0, 1001, 100))
    assert results.metrics["eval/return_std"].isna().all()


def test_a_broken_record_is_named(tmp_path: Path) -> None:
    start_sweep(tmp_path, name="s")
    (tmp_path / "trials" / "t0").mkdir(parents=True)
    (tmp_path / "trials" / "t0" / "trial.json").write_text("{")
    with pytest.raises(UserError, match=r"t0/trial\.json"):
        read_sweep(tmp_path)
