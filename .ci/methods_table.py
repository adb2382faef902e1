"""The tables of docs/methods.md: methods, objectives, and the objectives' settings, made from the registries.

    python .ci/methods_table.py    rewrites them

Each table stands between two marks of the page; the text around them is not touched.
"""

import re
import sys
from pathlib import Path

from spin_rl.algorithms.methods import METHODS, POLICY_OBJECTIVES, Method
from spin_rl.algorithms.objectives import OBJECTIVES, Objective
from spin_rl.algorithms.settings import OBJECTIVE_SETTINGS
from spin_rl.errors import UserError

_STARTS = {None: "–", "asm": "a pretrained ASM", "bc": "a clone of the data"}


def methods_table() -> str:
    """A row for every method: what it is, where it starts, the objectives that train it, settings that only it has."""
    rows = [
        [
            f"`{method.name}`",
            method.label,
            method.description.rstrip("."),
            _STARTS.get(method.pretrained, str(method.pretrained)),
            _objectives(method),
            _codes(sorted(method.settings)),
        ]
        for method in METHODS.values()
    ]
    return _table(["name", "in reports", "what it is", "starts from", "objectives", "settings of its own"], rows)


def objectives_table() -> str:
    """A row for every objective: what it is, whether it trains a policy, how it is evaluated, its settings."""
    rows = [
        [
            f"`{name}`",
            _first_line(objective),
            "yes" if objective.needs_policy else "no",
            "sampled" if objective.sampled else "greedy",
            _codes([setting for setting in OBJECTIVE_SETTINGS if hasattr(objective.settings_class, setting)]),
        ]
        for name, objective in OBJECTIVES.items()
    ]
    return _table(["name", "what it is", "trains a policy", "evaluated", "settings of its own"], rows)


def settings_table() -> str:
    """A row for every setting that only some objectives have."""
    rows = []
    for name, setting in OBJECTIVE_SETTINGS.items():
        owners, _, what = setting.help.removeprefix("of ").partition(": ")
        rows.append([f"`{name}`", what.rstrip(".") or "–", owners.replace("(default ", "(")])
    return _table(["setting", "what it is", "of (default)"], rows)


TABLES = {"methods": methods_table, "objectives": objectives_table, "settings": settings_table}
PAGE = Path(__file__).resolve().parent.parent / "docs" / "methods.md"


def with_tables(page: str) -> str:
    """The page with its tables made anew.

    Raises:
        UserError: the page lacks the marks of a table.
    """
    for name, table in TABLES.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        if not 0 <= page.find(begin) < page.find(end):
            raise UserError(f"The page has no place for the {name}: the lines {begin} and {end}.")
        page = page[: page.index(begin) + len(begin)] + "\n" + table() + page[page.index(end) :]
    return page


def _objectives(method: Method) -> str:
    return "every one of a policy" if method.objectives == POLICY_OBJECTIVES else _codes(method.objectives)


def _first_line(objective: type[Objective]) -> str:
    """The first line of its module's docstring, without references to specifications."""
    line = (sys.modules[objective.__module__].__doc__ or "").partition("\n")[0]
    return re.sub(r" \(SPEC\.md[^)]*\)", "", line).rstrip(".")


def _codes(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "–"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
    print(f"Wrote {PAGE}")
