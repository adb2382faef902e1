"""A sweep's own sections of its report: tables and pictures that answer its question, made from its files alone."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from spin_rl.platform.reports import style
from spin_rl.platform.results.files import SweepResults

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Section:
    """One question and its answer.

    Attributes:
        title: the question, short.
        text: the answer, and how to read it.
        tables: text for people, by title.
        data: the numbers behind it, by the name of the CSV file.
        figures: the pictures, by caption, each with the name of its files.
        pictures: paths of the saved pictures without suffix, by caption; filled in by `write_sections`.
    """

    title: str
    text: str = ""
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    data: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figures: Mapping[str, tuple[str, Figure]] = field(default_factory=dict)
    pictures: Mapping[str, Path] = field(default_factory=dict)


Analysis = Callable[[SweepResults], Sequence[Section]]
"""Makes the sections of a sweep from its results, finished or not."""


def write_sections(analysis: Analysis | None, results: SweepResults, folder: Path) -> list[Section]:
    """Make the sections and write their files into ``folder``; after an error the report goes without."""
    if analysis is None:
        return []
    try:
        return [_write(section, folder) for section in analysis(results)]
    except Exception as error:
        logger.exception("The sweep's own analysis failed; the rest of the report is complete.")
        return [Section("The sweep's own analysis", f"It failed: {type(error).__name__}: {error}")]


def _write(section: Section, folder: Path) -> Section:
    for name, frame in section.data.items():
        frame.to_csv(folder / f"{name}.csv", index=False)
    for name, figure in section.figures.values():
        style.save(figure, folder / name)
    return replace(section, pictures={caption: folder / name for caption, (name, _) in section.figures.items()})
