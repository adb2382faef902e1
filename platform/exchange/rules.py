"""Rules for interpreting a source of transitions. Imports no library, because the command line starts with it."""

from dataclasses import dataclass
from enum import StrEnum


class Duplicates(StrEnum):
    """What to do with an episode that equals an earlier one, bit for bit."""

    refuse = "refuse"
    drop = "drop"
    keep = "keep"  # for deterministic problems


@dataclass(frozen=True)
class ImportRules:
    """How an import interprets its source."""

    timeouts: bool = False  # terminations of the source are time limits
    shuffled: bool = False  # the rows are in random order: an episode lasts as long as rows happen to be consecutive
    duplicates: Duplicates = Duplicates.refuse


DEFAULT_RULES = ImportRules()
