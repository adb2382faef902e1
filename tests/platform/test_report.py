"""The report of a sweep, made from files alone."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from spin_rl.errors import UserError
from spin_rl.platform.common.json_files import read_json, write_json
from spin_rl.platform.reports.groups import evaluations, groups
from spin_rl.platform.reports.paper import against_paper, conditions, published
from spin_rl.platform.reports.report import make_report, print_report
from spin_rl.platform.reports.tables import aggregate, baseline_labels, final_scores, summary
from spin_rl.platform.reports.texts import latex
from spin_rl.platform.results.files import MetricsFile, read_sweep, start_sweep
from tests.platform.sweep_fixture import METHODS, PRETRAIN, SPEED, curve, params, write_trial


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two methods, two seeds each, and a trial that failed."""
    start_sweep(
        tmp_path, name="größer/kleiner <b>", description="Which is better?", command="spin-rl sweep x", methods=METHODS
    )
    for algorithm in ("factored", "spin"):
        for seed in (0, 1):
            write_trial(tmp_path, f"{algorithm}-{seed}", params(algorithm, seed))
    write_trial(tmp_path, "spin-2", params("spin", 2), state="failed", error="ValueError: größer <b>")
    return tmp_path


def table_of(folder: Path) -> pd.DataFrame:
    results = read_sweep(folder)
    return summary(results, groups(results), evaluations(results)).set_index("label")


def test_the_table_holds_means_deviations_and_costs_over_seeds(folder: Path) -> None:
    table = table_of(folder)
    assert table.index.tolist() == ["SPIN", "Factored"]  # the readers' order, whatever the files' one
    spin = table.loc["SPIN"]
    finals = [curve("spin", seed, 1000) for seed in (0, 1)]
    assert spin["return_mean"] == pytest.approx(sum(finals) / 2)
    assert spin["return_seed_std"] == pytest.approx(5 / 2**0.5)  # the seeds lie 5 apart; sample deviation
    assert (spin["seeds"], spin["failed"], spin["updates"]) == (2, 1, 1000)
    assert spin["seconds"] == pytest.approx(PRETRAIN["spin"] + 1000 / SPEED["spin"])
    assert table.loc["Factored", "updates_per_second"] == SPEED["factored"]


def test_what_prepares_a_training_is_part_of_its_cost(folder: Path) -> None:
    for seed in (0, 1):
        path = folder / "trials" / f"spin-{seed}" / "metrics.jsonl"
        path.write_text(path.read_text().replace('"perf/', '"time/preparation_seconds": 7.0, "perf/'))
    spin = table_of(folder).loc["SPIN"]
    assert spin["pretrain_seconds"] == PRETRAIN["spin"] + 7
    assert spin["seconds"] == pytest.approx(PRETRAIN["spin"] + 7 + 1000 / SPEED["spin"])
    evaluated = evaluations(read_sweep(folder))
    assert evaluated[evaluated["trial_id"] == "spin-0"]["seconds"].iloc[0] == PRETRAIN["spin"] + 7


def test_an_evaluation_counts_once_and_at_its_own_time(folder: Path) -> None:
    evaluated = evaluations(read_sweep(folder))
    rows = evaluated[evaluated["trial_id"] == "spin-0"]
    assert rows["updates"].tolist() == [0, 200, 400, 600, 800, 1000]
    assert rows["seconds"].tolist() == [PRETRAIN["spin"] + at / SPEED["spin"] for at in rows["updates"]]


def test_settings_that_differ_within_a_method_make_it_two(folder: Path) -> None:
    for seed in (0, 1):
        write_trial(folder, f"spin-{seed}", params("spin", seed, asm_steps=8000))
        write_trial(folder, f"short-{seed}", params("spin", seed, asm_steps=1000))
        write_trial(folder, f"tiny-{seed}", params("spin", seed, asm_steps=200))
    (folder / "trials" / "spin-2" / "trial.json").unlink()
    labels = ["SPIN, asm_steps 200", "SPIN, asm_steps 1000", "SPIN, asm_steps 8000", "Factored"]
    assert table_of(folder).index.tolist() == labels


def test_what_comes_with_the_seed_makes_no_method(folder: Path) -> None:
    for seed in (0, 1):
        asm = {"asm": f"/asm/{seed}", "drawn_with": seed}
        write_trial(folder, f"spin-{seed}", params("spin", seed, **asm, asm_steps=10, asm_epochs=0.5))
        asm = {"asm": f"/asm/{seed}/more", "drawn_with": seed}
        write_trial(folder, f"more-{seed}", params("spin", seed, **asm, asm_steps=20, asm_epochs=1.0))
    (folder / "trials" / "spin-2" / "trial.json").unlink()
    assert table_of(folder).index.tolist() == ["SPIN, asm_steps 10", "SPIN, asm_steps 20", "Factored"]


def test_a_trial_that_was_started_again_under_another_id_counts_once(folder: Path) -> None:
    write_trial(folder, "lost", params("spin", 0), state="killed", started=0.5e9)
    write_trial(folder, "again", params("factored", 0), started=1.5e9)
    table = table_of(folder)
    assert table["seeds"].tolist() == [2, 2]


def test_a_running_trial_counts_only_where_none_is_finished(folder: Path) -> None:
    write_trial(folder, "spin-3", params("spin", 3), state="running")
    write_trial(folder, "saint-0", params("spin", 0) | {"algorithm": "factored", "level": "expert"}, state="running")
    table = table_of(folder).reset_index()
    assert table[["label", "state", "seeds"]].to_numpy().tolist() == [
        ["SPIN", "finished", 2],
        ["Factored", "finished", 2],
        ["Factored", "running", 1],
    ]


def test_a_method_that_has_begun_and_is_not_evaluated_yet_is_reported_without_numbers(folder: Path) -> None:
    for algorithm in ("spin", "factored"):
        write_trial(folder, f"{algorithm}-new", {**params(algorithm, 0), "task": "finger-spin"}, state="killed")
        (folder / "trials" / f"{algorithm}-new" / "metrics.jsonl").unlink()
    table = make_report(folder).table
    begun = table[table["group"].str.startswith("finger-spin")]
    assert begun["seeds"].tolist() == [0, 0]
    assert begun[["return_mean", "area", "return_10k", "target_seconds"]].isna().to_numpy().all()
    assert table[~table["group"].str.startswith("finger-spin")]["seeds"].tolist() == [2, 2]


def test_the_time_to_target_counts_pretraining_and_is_that_of_the_mean_curve(folder: Path) -> None:
    table = table_of(folder)
    target = 0.95 * (curve("factored", 0, 1000) + curve("factored", 1, 1000)) / 2
    at = [0, 200]  # SPIN crosses between its first two evaluations
    low, high = ((curve("spin", 0, updates) + curve("spin", 1, updates)) / 2 for updates in at)
    crossing = 200 * (target - low) / (high - low)
    assert 0 < crossing < 200
    assert table.loc["SPIN", "target_seconds"] == pytest.approx(PRETRAIN["spin"] + crossing / SPEED["spin"])
    assert table.loc["Factored", "target_seconds"] < 1000 / SPEED["factored"]


def test_methods_are_compared_over_the_groups_that_all_of_them_have(folder: Path) -> None:
    for seed in (0, 1):
        write_trial(folder, f"only-{seed}", params("spin", seed) | {"level": "expert"})
    results = read_sweep(folder)
    sweep_groups, evaluated = groups(results), evaluations(results)
    scores = final_scores(sweep_groups, evaluated)
    assert [len(tasks) for tasks in scores.values()] == [1, 1]
    overall = aggregate(scores, baseline_labels(sweep_groups)).set_index("label")
    assert overall.loc["SPIN", "iqm"] == pytest.approx((curve("spin", 0, 1000) + curve("spin", 1, 1000)) / 2 / 6.6)
    assert overall.loc["SPIN", "improvement"] == 1.0
    assert pd.isna(overall.loc["Factored", "improvement"])


@pytest.fixture
def several(folder: Path) -> Path:
    """The methods of `folder` with IQL, SPIN alone with AWAC, and both with BCQ, where the factored policy is poor."""
    for seed in (0, 1):
        write_trial(folder, f"awac-{seed}", params("spin", seed, objective="awac", temperature=1.0))
        write_trial(folder, f"bcq-{seed}", params("spin", seed, objective="bcq"))
        write_trial(folder, f"low-{seed}", params("factored", seed, objective="bcq"))
        path = folder / "trials" / f"low-{seed}" / "metrics.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        lines = [line | {"eval/return_mean": line["eval/return_mean"] / 3} for line in lines]
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_objectives_are_compared_on_the_data_that_they_share(several: Path) -> None:
    table = table_of(several).reset_index()
    assert set(table["group"]) == {"cheetah-run, 3 bins, medium-expert"}
    assert table[["label", "objective", "seeds"]].to_numpy().tolist() == [
        ["SPIN, AWAC", "awac", 2],
        ["SPIN, BCQ", "bcq", 2],
        ["SPIN, IQL", "iql", 2],
        ["Factored, BCQ", "bcq", 2],
        ["Factored, IQL", "iql", 2],
    ]
    sweep_groups = groups(read_sweep(several))
    assert [method.short_label for group in sweep_groups for method in group.methods[:2]] == ["SPIN", "SPIN"]
    looks = {method.label: method.look for method in sweep_groups[0].methods}
    assert len({look.color for look in looks.values()}) == 5


def test_other_objectives_change_no_number_of_an_objective(folder: Path, several: Path) -> None:
    for trial in several.glob("trials/*"):  # the sweep with IQL alone
        if trial.name.startswith(("awac", "bcq", "low")):
            trial.rename(several / trial.name)
    alone = table_of(several).drop(columns="group")
    for trial in several.glob("*-[01]"):
        trial.rename(several / "trials" / trial.name)
    beside = table_of(several).drop(columns="group")
    beside = beside[beside["objective"] == "iql"].rename(index=lambda label: label.removesuffix(", IQL"))
    pd.testing.assert_frame_equal(beside, alone)


def test_a_method_is_measured_against_the_factored_policy_with_its_objective_or_else_with_iql(several: Path) -> None:
    seconds = table_of(several)["target_seconds"]
    assert seconds["SPIN, BCQ"] < seconds["SPIN, IQL"] == seconds["SPIN, AWAC"]
    assert baseline_labels(groups(read_sweep(several))) == {
        "SPIN, AWAC": "Factored, IQL",
        "SPIN, BCQ": "Factored, BCQ",
        "SPIN, IQL": "Factored, IQL",
        "Factored, BCQ": "Factored, BCQ",
        "Factored, IQL": "Factored, IQL",
    }
    for seed in (0, 1):
        shutil.rmtree(several / "trials" / f"factored-{seed}")
    assert baseline_labels(groups(read_sweep(several)))["SPIN, AWAC"] == "Factored, BCQ"


def test_versions_of_a_dataset_are_different_data(folder: Path) -> None:
    for trial in folder.glob("trials/*/trial.json"):
        record = read_json(trial)
        write_json(trial, record | {"params": record["params"] | {"dataset_digest": "a" * 64}})
    assert set(table_of(folder)["group"]) == {"cheetah-run, 3 bins, medium-expert, IQL"}
    write_trial(folder, "more", params("spin", 0, dataset_digest="b" * 64))
    table = table_of(folder).reset_index()
    title = "cheetah-run, 3 bins, medium-expert, data {}, IQL"
    assert table.groupby("group")["seeds"].apply(list).to_dict() == {
        title.format("a" * 8): [2, 2],
        title.format("b" * 8): [1],
    }


def test_names_order_and_looks_are_those_of_the_record(folder: Path) -> None:
    write_trial(folder, "mine-0", params("spin", 0))
    write_json(
        folder / "trials/mine-0/trial.json",
        read_json(folder / "trials/mine-0/trial.json") | {"params": params("mine", 0)},
    )
    (group,) = groups(read_sweep(folder))
    assert [method.label for method in group.methods] == ["SPIN", "Factored", "mine"]
    factored = group.methods[1].look
    assert (factored.line, factored.marker, factored.color[0]) == ((0, (1.2, 1.2)), "^", pytest.approx(0x44 / 255))
    assert group.methods[2].look.color not in [method.look.color for method in group.methods[:2]]


def test_an_older_sweep_without_a_record_of_its_methods_is_reported(folder: Path) -> None:
    record = read_json(folder / "sweep.json")
    del record["methods"]
    write_json(folder / "sweep.json", record)
    assert make_report(folder).table["label"].tolist() == ["factored", "spin"]


def test_published_results_stand_beside_ours(folder: Path) -> None:
    results = read_sweep(folder)
    sweep_groups = groups(results)
    compared = against_paper(table_of(folder).reset_index(), sweep_groups).set_index("label")
    assert compared["paper_return"].to_dict() == {"SPIN": 651.1, "Factored": 612.9}
    assert compared["paper_minutes"].to_dict() == {"SPIN": 14.9, "Factored": 80.0}
    assert compared.loc["SPIN", "paper_early_share"] == 0.91
    assert "1,000 policy updates, 3 seeds. The paper: IQL, 1,000,000 policy updates" in conditions(results)


def test_the_published_table_adds_up_to_its_overall_row() -> None:
    cells = [(key, cell) for key, cell in published().items() if key[0] != "dog-trot"]
    assert len(cells) == 4 * 16
    for algorithm, mean, minutes in (("factored", 558.2, 558), ("saint", 572.1, 845), ("spin", 594.1, 223)):
        own = [cell for key, cell in cells if key[3] == algorithm]
        assert sum(cell.episode_return for cell in own) / 16 == pytest.approx(mean, abs=0.06)
        assert sum(cell.minutes for cell in own) == pytest.approx(minutes, abs=1)


def test_latex_escapes_what_latex_would_read(folder: Path) -> None:
    text = latex(table_of(folder).reset_index().replace("SPIN", "SPIN_a & 50 %"))
    assert r"SPIN\_a \& 50 \% & \textbf{581.1 $\pm$ 3.5} &" in text
    rows = [line for line in text.splitlines() if line.startswith(("SPIN", "Factored", "algorithm"))]
    assert [row.count(" & ") for row in rows] == [6, 6, 6]


def test_the_report_is_whole_and_the_page_stands_alone(folder: Path) -> None:
    report = make_report(folder)
    names = {path.name for path in report.folder.iterdir()}
    assert {"report.html", "table.csv", "table.md", "learning-curves.png", "learning-curves.pdf"} <= names
    assert (
        pd.read_csv(report.folder / "table.csv")["return_mean"].round(6).tolist()
        == report.table["return_mean"].round(6).tolist()
    )
    assert "| SPIN | " in (report.folder / "table.md").read_text()
    page = report.page.read_text()
    sources = re.findall(r'(?:src|href)="([^"]*)', page)
    assert sources
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert "größer/kleiner &lt;b&gt;" in page
    assert "ValueError: größer &lt;b&gt;" in page
    console = Console(width=80, record=True, file=Path("/dev/null").open("w"))  # noqa: SIM115
    print_report(report, console)
    text = console.export_text()
    assert "4 finished, 1 failed" in text
    assert "…" not in text  # nothing cut off at 80 columns


def test_the_same_results_give_the_same_files(folder: Path) -> None:
    first = {path.name: path.read_bytes() for path in make_report(folder).folder.iterdir() if path.suffix != ".html"}
    assert {
        path.name: path.read_bytes() for path in make_report(folder).folder.iterdir() if path.suffix != ".html"
    } == first


def test_a_sweep_without_an_evaluation_says_so(tmp_path: Path) -> None:
    start_sweep(tmp_path, name="s")
    with pytest.raises(UserError, match="No trial of the sweep 's' has been evaluated yet"):
        make_report(tmp_path)
    write_json(
        tmp_path / "trials/t/trial.json",
        {"trial_id": "t", "params": params("spin", 0), "state": "failed", "error": "x"},
    )
    MetricsFile(tmp_path / "trials/t/metrics.jsonl").append({"updates": 0, "timestamp": 1.0, "train/loss": 2.0})
    with pytest.raises(UserError, match=r"1 started, 1 failed"):
        make_report(tmp_path)


def test_a_metric_that_was_never_logged_is_a_dash(tmp_path: Path) -> None:
    start_sweep(tmp_path, name="s")
    write_json(
        tmp_path / "trials/t/trial.json",
        {"trial_id": "t", "params": {"algorithm": "mine", "seed": 0}, "state": "finished"},
    )
    MetricsFile(tmp_path / "trials/t/metrics.jsonl").append({"updates": 0, "timestamp": 1.0, "eval/return_mean": 2.0})
    make_report(tmp_path)
    assert "| mine | 2.0 | – | – | – | – | 1 |" in (tmp_path / "report/table.md").read_text()
