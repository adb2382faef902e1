"""The sweeps' own analyses, on results that were made up so that the answers are known."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from spin_rl.platform.common.json_files import write_json
from spin_rl.platform.reports.report import make_report
from spin_rl.platform.reports.sections import Section, write_sections
from spin_rl.platform.results.files import MetricsFile, SweepResults, read_sweep, start_sweep
from spin_rl.sweeps import baselines, head_size, masking, pretraining_length
from spin_rl.sweeps.analysis.outcomes import outcomes, with_clones
from tests.platform.sweep_fixture import METHODS

UPDATES = range(0, 1001, 100)
NOISE = {0: -10.0, 1: 0.0, 2: 10.0}


def trial(folder: Path, algorithm: str, seed: int, final: float, *, pretrain: float = 0.0, **params: Any) -> None:
    """A finished trial whose return rises linearly to ``final`` and a seed's share of it, at 10 updates a second."""
    trial_id = f"{algorithm}-{seed}-{len(list(folder.glob('trials/*')))}"
    known = {"task": "cheetah-run", "bins": 3, "level": "medium-expert", "objective": "iql", **params}
    record = {"trial_id": trial_id, "state": "finished", "error": None, "started": 1e9, "ended": 2e9}
    write_json(
        folder / "trials" / trial_id / "trial.json",
        {**record, "params": {"algorithm": algorithm, "seed": seed, "updates": 1000, **known}},
    )
    file = MetricsFile(folder / "trials" / trial_id / "metrics.jsonl")
    for updates in UPDATES:
        value = (final + NOISE[seed]) * updates / 1000
        file.append(
            {
                "updates": updates,
                "timestamp": 1e9 + updates,
                "eval/return_mean": value,
                "eval/normalized_score": value / 6,
                "time/pretrain_seconds": pretrain,
                "time/train_seconds": updates / 10,
                "perf/updates_per_second": 10.0,
            }
        )


@pytest.fixture
def lengths(tmp_path: Path) -> Path:
    """Steps 100 give all that 400 give, but for a little; those of 0 nothing; the factored policy is slow."""
    start_sweep(tmp_path, name="s", methods=METHODS)
    for level in ("medium-expert", "expert"):
        for seed in NOISE:
            trial(tmp_path, "factored", seed, 300, level=level)
            for steps, final in ((0, 100), (100, 597), (400, 600)):
                # the second length loses to the third by 3 with two seeds, and wins by 3 with one
                own = final + (6 if (steps, seed) == (100, 0) else 0)
                asm = {"asm": f"/asm/{seed}/{steps}", "asm_steps": steps, "asm_epochs": steps / (90 + len(level))}
                trial(tmp_path, "spin", seed, own, pretrain=float(steps), level=level, **asm)
    return tmp_path


def only(sections: "list[Section]") -> Section:
    (section,) = sections
    return section


def test_more_pretraining_stops_paying_where_the_rest_is_noise(lengths: Path) -> None:
    results = read_sweep(lengths)
    section = only(list(pretraining_length.analysis(results)))
    for level in ("expert", "medium-expert"):
        assert (
            f"cheetah-run, 3 bins, {level}, IQL: SPIN has the highest return after 400 steps (600.0 ± 10.0); "
            "from 100 steps on it is within one standard error of that."
        ) in section.text
    # 95 % of 300 are 285: after 285/599 of 100 s and 100 s of pretraining, and 95 s for the factored policy
    time = 100 + 100 * 285 / 599
    assert (
        f"It reaches the target first after 100 steps of pretraining, in {time:.0f} s, the factored policy in 95 s"
        in section.text
    )
    table = section.tables["cheetah-run, 3 bins, expert, IQL"]
    assert table["steps"].tolist() == ["–", "0", "100", "400"]
    assert table["to 95 %"].tolist() == ["95", "–", "148", "448"]
    assert table["return"].tolist()[:2] == ["300.0 ± 10.0", "100.0 ± 10.0"]


def test_one_seed_has_no_noise_to_be_within(tmp_path: Path) -> None:
    start_sweep(tmp_path, name="s", methods=METHODS)
    for steps, final in ((0, 100), (100, 599), (400, 600)):
        trial(tmp_path, "spin", 1, final, asm_steps=steps)
    section = only(list(pretraining_length.analysis(read_sweep(tmp_path))))
    assert (
        "SPIN has the highest return after 400 steps (600.0), with one seed, which says nothing about the noise"
        in section.text
    )
    assert "target" not in section.text


def test_the_epochs_of_datasets_of_different_sizes_make_no_further_methods(lengths: Path) -> None:
    labels = outcomes(read_sweep(lengths), [])["label"]
    assert sorted(set(labels)) == ["Factored", "SPIN, asm_steps 0", "SPIN, asm_steps 100", "SPIN, asm_steps 400"]


def test_the_report_holds_the_analysis_and_its_files(lengths: Path) -> None:
    report = make_report(lengths, pretraining_length.analysis)
    written = {path.name for path in report.folder.iterdir()}
    assert {"pretraining-length.csv", "pretraining-length.png", "pretraining-length.pdf"} <= written
    data = pd.read_csv(report.folder / "pretraining-length.csv")
    assert sorted(data["asm_steps"].dropna().unique()) == [0, 100, 400]
    page = report.page.read_text()
    assert page.index("<h2>How long to pretrain</h2>") < page.index("<h2>Results</h2>")
    assert "within one standard error" in page
    assert page.count('<img src="data:image/png;base64,') == len(report.pictures) + 1


def test_an_analysis_that_fails_costs_no_report(lengths: Path) -> None:
    def wrong(results: SweepResults) -> list[Section]:
        raise KeyError("nothing")

    assert "KeyError" in only(write_sections(wrong, read_sweep(lengths), lengths)).text


def test_each_size_is_looked_at_while_the_others_stand_still(tmp_path: Path) -> None:
    start_sweep(tmp_path, name="s", methods=METHODS)
    usual = {"head_width": 128, "layers": 2, "width": 64}
    sizes = [usual, usual | {"layers": 1}, usual | {"layers": 3}, usual | {"head_width": 32}, usual | {"width": 32}]
    for seed in NOISE:
        trial(tmp_path, "factored", seed, 300)
        for place, size in enumerate(sizes):
            trial(tmp_path, "spin", seed, 400 + place, asm_steps=10, **size, network={"asm": size})
    results = read_sweep(tmp_path)
    table = outcomes(results, list(usual))
    depth = head_size._along(table, "layers", usual)
    assert sorted(depth["layers"].dropna()) == [1, 2, 3]
    assert depth["layers"].isna().sum() == 1
    section = only(list(head_size.analysis(results)))
    assert "width of the heads 128, depth of the trunk 2, width of the model 64" in section.text
    assert len(section.figures) == 1
    labels = sorted(set(table["label"]))
    assert "SPIN, head_width 128, layers 1, width 64" in labels  # and not its network, which says the same again


def test_methods_are_set_side_by_side_and_summed_where_all_arrived(tmp_path: Path) -> None:
    start_sweep(tmp_path, name="s", methods=METHODS)
    for seed in NOISE:
        for task, final in (("cheetah-run", 300), ("finger-spin", 600)):
            trial(tmp_path, "factored", seed, final, task=task)
            trial(tmp_path, "saint", seed, 2 * 300, task=task)
        trial(tmp_path, "factored", seed, 200, objective="bcq")
    section = only(list(baselines.analysis(read_sweep(tmp_path))))
    assert list(section.tables) == ["IQL", "BCQ"] or list(section.tables) == ["BCQ", "IQL"]
    table = section.tables["IQL"].set_index("dataset")
    assert table.loc["medium-expert cheetah-run 3"].tolist() == ["600.0 / 0.8", "300.0 / 1.6"]
    assert table.loc["overall"].tolist() == ["600.0 / 2.4", "450.0 / 3.2"]


def test_methods_with_objectives_of_their_own_share_a_table(tmp_path):
    start_sweep(tmp_path, name="s", methods=METHODS)
    for seed in NOISE:
        trial(tmp_path, "factored", seed, 300)
        for name, final in (("decqn-iql", 400), ("decqn-cql", 500)):
            trial(tmp_path, name, seed, final, objective=name)
    tables = only(list(baselines.analysis(read_sweep(tmp_path)))).tables
    assert sorted(tables) == ["IQL", "Objectives of their own"]
    shared = tables["Objectives of their own"].set_index("dataset")
    returns = {name: cell.split(" /")[0] for name, cell in shared.loc["medium-expert cheetah-run 3"].items()}
    assert sorted(returns.values()) == ["400.0", "500.0"]
    assert "–" not in shared.to_string()  # their target is that of the factored policy with IQL


def test_masking_compares_what_is_equal_but_for_one_thing(tmp_path):
    start_sweep(tmp_path, name="s", methods=METHODS)
    for seed in NOISE:
        trial(tmp_path, "factored", seed, 300)
        for algorithm, better in (("spin", 0), ("spin-cached", 60)):
            for kind, final in (("fixed", 100), ("variable", 400)):
                luck = 12 * (seed - 1) if (algorithm, kind) == ("spin", "variable") else 0  # in returns: -12, 0, 12
                trial(tmp_path, algorithm, seed, final + better + luck, asm_masking=kind, asm_steps=100)
    section = only(masking.analysis(read_sweep(tmp_path)))
    table = section.data["pairs"].set_index(["with", "first", "second"])
    spin = table.loc[("SPIN", "variable masking", "fixed masking")]
    assert (spin["difference"], spin["pairs"], spin["won"]) == (
        pytest.approx(50),
        3,
        3,
    )  # a score is a sixth of a return
    # Student's t with two degrees of freedom: 4.3027 standard errors of differences of 48, 50 and 52
    assert spin["high"] - spin["low"] == pytest.approx(2 * 4.302653 * 2 / 3**0.5, rel=1e-5)
    cached = table.loc[("fixed masking", "SPIN-Cached", "SPIN")]
    assert (cached["difference"], cached["won"]) == (pytest.approx(10), 3)
    assert len(table) == 4
    for seed in NOISE:  # pairs are equal in every other setting too
        for kind, final in (("fixed", 100), ("variable", 160)):
            trial(tmp_path, "spin", seed, final, asm_masking=kind, asm_steps=100, lr=0.1)
    table = only(masking.analysis(read_sweep(tmp_path))).data["pairs"].set_index(["with", "first", "second"])
    spin = table.loc[("SPIN", "variable masking", "fixed masking")]
    assert (spin["difference"], spin["pairs"], spin["won"]) == (pytest.approx((50 + 10) / 2), 6, 6)


def test_clones_stand_on_the_same_axis_as_action_structure_models():
    trials = pd.DataFrame(
        {
            "algorithm": ["factored", "spin", "bpr"],
            "asm_steps": [np.nan, 20.0, np.nan],
            "clone_steps": [np.nan, np.nan, 30.0],
            "clone_epochs": [np.nan, np.nan, 2.0],
        }
    )
    shown = with_clones(trials)
    assert shown["asm_steps"].fillna(-1).tolist() == [-1, 20, 30]
    assert shown["asm_epochs"].fillna(-1).tolist() == [-1, -1, 2]
    assert with_clones(trials[["algorithm", "asm_steps"]]).equals(trials[["algorithm", "asm_steps"]])
