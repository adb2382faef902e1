"""The tables of docs/datasets.md."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from script import load

from spin_rl.envs import catalogue, get_task
from spin_rl.envs.behaviour.library import list_cards
from spin_rl.errors import UserError
from spin_rl.platform.datasets import list_datasets

dataset_table = load("dataset_table")
DATASETS, POLICIES = dataset_table.DATASETS, dataset_table.POLICIES
datasets_table, policies_table = dataset_table.datasets_table, dataset_table.policies_table
with_table = dataset_table.with_table

PAGE = (Path(__file__).parents[2] / "docs/datasets.md").read_text()


def test_the_page_shows_the_policies_that_are_shipped(monkeypatch):
    monkeypatch.delitem(catalogue._TASKS, ("toy", 4), raising=False)  # a task of other tests of this process
    get_task("cone-2x5", 2)  # a CoNE task exists once it is named; the page lists only the fixed ones
    assert with_table(PAGE, POLICIES, policies_table()) == PAGE, "run: python .ci/dataset_table.py"


@pytest.mark.parametrize(
    ("share", "settings", "expected"),
    [
        (0.952, {}, "300.0 ± 20.0 over 30 episodes, 95.2% of expert, 9,000 steps"),
        (0.18, {}, "best reached: 300.0 ± 20.0 over 30 episodes, 18.0% of expert, 9,000 steps"),
        (
            0.18,
            {"started_from": "1f"},
            "best reached: 300.0 ± 20.0 over 30 episodes, 18.0% of expert, 9,000 steps after another training's",
        ),
    ],
)
def test_a_policy_is_called_what_it_is(tmp_path, share, settings, expected):
    shipped = next(card for card in list_cards() if (card.task, card.bins, card.level) == ("walker-run", 3, "expert"))
    measured = {"return_mean": 300.0, "return_std": 20.0, "episodes": 30, "steps": 9_000}
    card = replace(shipped, expert_share=share, settings=settings, **measured)
    (tmp_path / "walker-run-3").mkdir()
    (tmp_path / "walker-run-3/expert.json").write_text(json.dumps(asdict(card)))
    (row,) = [line for line in policies_table(tmp_path).splitlines() if line.startswith("| walker-run | 3 |")]
    assert row.endswith(f" | none yet | {expected} |")


def test_datasets_found_replace_their_rows_and_others_keep_theirs(small_data):
    (metadata,) = list_datasets(small_data)
    page = with_table(PAGE, DATASETS, datasets_table([], _page_with("other-1/random-v1, size 5, seed 0")))
    once = with_table(page, DATASETS, datasets_table([metadata], page))
    twice = with_table(once, DATASETS, datasets_table([metadata], once))
    assert once == twice
    assert once.count("| other-1/random-v1, size 5, seed 0 |") == 1
    (row,) = [line for line in once.splitlines() if metadata.digest in line]
    assert f"| {metadata.returns.mean:.1f} ± {metadata.returns.std:.1f} |" in row
    assert "medium 3" in row
    low = replace(metadata.behaviours[-1], name="expert", policy="DecQN of 9 steps, seed 0; best reached (8%)")
    row = datasets_table([replace(metadata, behaviours=(*metadata.behaviours[:-1], low))], once)
    assert f"; expert, best reached (8%): {low.return_mean:.1f} ±" in row


def _page_with(name: str) -> str:
    row = " | ".join([name, *["x"] * 6])
    return f"<!-- datasets: begin -->\n| head |\n| --- |\n| {row} |\n<!-- datasets: end -->"


def test_a_page_without_the_marks_is_refused():
    with pytest.raises(UserError, match="no place for the policies"):
        with_table("# Page\n", POLICIES, "")


def test_the_script_writes_both_tables(small_data: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("".join(f"<!-- {name}: {end} -->\n" for name in (POLICIES, DATASETS) for end in ("begin", "end")))
    dataset_table.main(str(small_data), page)
    assert "| cheetah-run-3/medium-expert-v1, size 2000, seed 0 |" in page.read_text()
    assert "| quadruped-walk | 50 |" in page.read_text()
