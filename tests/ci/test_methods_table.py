"""The tables of docs/methods.md."""

from pathlib import Path

import pytest
from script import load

from spin_rl.algorithms.methods import METHODS
from spin_rl.algorithms.objectives import OBJECTIVES
from spin_rl.errors import UserError

methods_table = load("methods_table")
PAGE = (Path(__file__).parents[2] / "docs/methods.md").read_text()


def test_the_page_shows_what_the_registries_hold():
    assert methods_table.with_tables(PAGE) == PAGE, "run: python .ci/methods_table.py"
    for name in (*METHODS, *OBJECTIVES):
        assert f"\n| `{name}` | " in PAGE


def test_a_page_without_the_marks_is_refused():
    with pytest.raises(UserError, match="no place for the methods"):
        methods_table.with_tables("# Page\n")
