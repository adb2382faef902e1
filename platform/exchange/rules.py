"""What is known of a source beyond what it says. Imports no library, since the command line begins with it."""

from dataclasses import dataclass
from enum import StrEnum


class Duplicates(StrEnum):
    """What becomes of an episode that is the same as an earlier one, bit for bit."""

    refuse = "refuse"
    drop = "drop"
    keep = "keep"  # deterministic problems have such


@dataclass(frozen=True)
class ImportRules:
    """What an import takes for granted."""

    timeouts: bool = False  # where it says that the problem ended, only the time did
    shuffled: bool = False  # its rows are in no order: an episode is as long as rows happen to follow each other
    duplicates: Duplicates = Duplicates.refuse


AS_IT_SAYS = ImportRules()
