"""What a check of a machine, a place or a cluster says: how it stands, and the mend."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from spin_rl.errors import UserError


class State(StrEnum):
    """How bad a finding is; only a problem makes ``spin-rl doctor`` and ``spin-rl submit`` fail."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what it is, how it stands and what to do about it."""

    subject: str
    state: State
    text: str
    mend: str = ""


def raise_problem(findings: Iterable[Finding]) -> None:
    """Raise the first problem among ``findings`` as a UserError of one sentence; do nothing without one."""
    for finding in findings:
        if finding.state is State.PROBLEM:
            raise UserError(f"{finding.subject}: {finding.text}; {finding.mend}.")


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
