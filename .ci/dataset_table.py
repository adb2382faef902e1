"""The tables of docs/datasets.md: tasks with their behaviour policies, and datasets with the returns measured in them.

    python .ci/dataset_table.py [ROOT]    rewrites them; datasets that are not below ROOT (./data) keep their rows

Each table stands between two marks of the page; the text around them is not touched.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from spin_rl.envs import Task, nvec_of, tasks
from spin_rl.envs.behaviour.library import PolicyCard, list_cards
from spin_rl.envs.catalogue import is_of_a_family
from spin_rl.errors import UserError
from spin_rl.platform.datasets import DatasetMetadata, list_datasets
from spin_rl.platform.datasets.metadata import Behaviour

POLICIES, DATASETS = "policies", "datasets"


def policies_table(policies: Path | None = None) -> str:
    """A row for every task that is not built by its name: sizes, reference returns, shipped policies."""
    cards = {(card.task, card.bins, card.level): card for card in list_cards(policies)}
    groups: dict[tuple[Any, ...], list[Task]] = {}
    for task in tasks().values():
        if is_of_a_family(task):
            continue
        # Mazes differ in their number of actuators only
        group = (task.name,) if not task.scripted else (re.sub(r"\d+$", "", task.name),)
        groups.setdefault(group, []).append(task)
    rows = []
    for members in groups.values():
        members.sort(key=lambda task: (len(task.name), task.name, task.bins))
        rows += [_scripted_row(members)] if members[0].scripted else [_row(task, cards) for task in members]
    head = ["task", "bins", "N", "S", "random", "expert", "medium policy", "expert policy"]
    return _table(head, rows)


def datasets_table(found: Iterable[DatasetMetadata], page: str) -> str:
    """A row for every dataset: of those found, and of those that the page has already and that are not found here."""
    rows = {cells[0]: cells for cells in _cells(_between(page, DATASETS))[2:]}
    for metadata in found:
        returns = metadata.returns
        parts = "; ".join(f"{_level(b)} {b.return_mean:.1f} ± {b.return_std:.1f}" for b in metadata.behaviours)
        rows[f"{metadata.key}, size {metadata.requested_size}, seed {metadata.seed}"] = [
            f"{metadata.key}, size {metadata.requested_size}, seed {metadata.seed}",
            f"{metadata.transitions:,}",
            f"{metadata.episodes:,}",
            f"{returns.mean:.1f} ± {returns.std:.1f}",
            " · ".join(
                f"{value:.0f}" for value in (returns.minimum, returns.q25, returns.median, returns.q75, returns.maximum)
            ),
            parts,
            f"`{metadata.digest}`",
        ]
    head = ["dataset", "transitions", "episodes", "return", "0 · 25 · 50 · 75 · 100 %", "by behaviour", "digest"]
    return _table(head, [rows[key] for key in sorted(rows)])


def with_table(page: str, name: str, table: str) -> str:
    """The page with another table between the marks of ``name``.

    Raises:
        UserError: the page has no such marks.
    """
    _between(page, name)
    begin, end = _marks(name)
    return page[: page.index(begin) + len(begin)] + "\n" + table + page[page.index(end) :]


def _level(behaviour: Behaviour) -> str:
    """The level, with what its policy says where it is less than that."""
    _, _, less = behaviour.policy.partition("; ")
    return f"{behaviour.name}, {less}:" if less else behaviour.name


def _row(task: Task, cards: dict[tuple[str, int, str], PolicyCard]) -> list[str]:
    return [task.name, str(task.bins), *_sizes(task), *_reference(task)] + [
        _said(cards.get((task.name, task.bins, level))) for level in ("medium", "expert")
    ]


def _scripted_row(members: list[Task]) -> list[str]:
    """One row for siblings whose policies are scripted."""
    first, last = members[0], members[-1]
    both = [(low, high) for low, high in zip(_columns(first), _columns(last), strict=True)]
    cells = [low if low == high else f"{low} to {high}" for low, high in both]
    return [*cells, "scripted", "scripted"]


def _columns(task: Task) -> list[str]:
    return [task.name, str(task.bins), *_sizes(task), *_reference(task)]


def _sizes(task: Task) -> list[str]:
    """N and S, which do not depend on the number of bins."""
    if task.name not in _KNOWN_SIZES:
        env = task.make()
        space: Any = env.observation_space
        _KNOWN_SIZES[task.name] = [str(len(nvec_of(env))), str(space.shape[0])]
        env.close()
    return _KNOWN_SIZES[task.name]


_KNOWN_SIZES: dict[str, list[str]] = {}


def _reference(task: Task) -> list[str]:
    known = task.reference
    return [f"{known.random:g}", f"{known.expert:g}"] if known.known else ["unknown", "unknown"]


def _said(card: PolicyCard | None) -> str:
    if card is None:
        return "none yet"
    returns = f"{card.return_mean:.1f} ± {card.return_std:.1f}"
    best = "" if card.label == card.level else "best reached: "
    return f"{best}{returns} over {card.episodes} episodes, {card.share} of expert, {card.length}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cells(table: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines() if line.startswith("|")
    ]


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def _between(page: str, name: str) -> str:
    begin, end = _marks(name)
    if not 0 <= page.find(begin) < page.find(end):
        raise UserError(f"The page has no place for the {name}: the lines {begin} and {end}.")
    return page[page.index(begin) + len(begin) : page.index(end)]


PAGE = Path(__file__).resolve().parent.parent / "docs" / "datasets.md"


def main(root: str | None = None, page: Path = PAGE) -> None:
    """Rewrite both tables of a page."""
    text = page.read_text()
    found = list_datasets(root)
    for name, table in {POLICIES: policies_table(), DATASETS: datasets_table(found, text)}.items():
        text = with_table(text, name, table)
    page.write_text(text)
    print(f"Wrote {page}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
