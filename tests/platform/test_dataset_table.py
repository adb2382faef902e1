"""The tables of docs/datasets.md."""

from dataclasses import replace
from pathlib import Path

import pytest

from spin_rl.envs import UserError, catalogue, get_task
from spin_rl.platform.dataset_table import DATASETS, POLICIES, datasets_table, policies_table, with_table
from spin_rl.platform.datasets import list_datasets

PAGE = (Path(__file__).parents[2] / "docs/datasets.md").read_text()


def test_the_page_shows_the_policies_that_are_shipped(monkeypatch):
    monkeypatch.delitem(catalogue._TASKS, ("toy", 4), raising=False)  # a task of other tests of this process
    get_task("cone-2x5", 2)  # tasks that somebody named are none of the page's
    assert with_table(PAGE, POLICIES, policies_table()) == PAGE, "run: spin-rl data table"


def test_a_policy_below_the_experts_share_is_called_the_best_reached():
    (row,) = [line for line in policies_table().splitlines() if line.startswith("| dog-trot | 10 |")]
    assert "| none yet | best reached: " in row
    assert row.endswith(" steps after another training's |")
    (row,) = [line for line in policies_table().splitlines() if line.startswith("| walker-run | 3 |")]
    assert "best reached" not in row
    assert row.endswith(" steps |")


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
