"""Findings: what a check of a machine, a storage location or a cluster reports, with its status and suggested fix."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from spin_rl.errors import UserError


class State(StrEnum):
    """Severity of a finding; only a problem makes ``spin-rl doctor`` and ``spin-rl submit`` fail."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One thing that was checked: what it is, its status and the suggested fix."""

    subject: str
    state: State
    text: str
    fix: str = ""

    def error(self) -> UserError:
        """The finding as an error of one sentence."""
        return UserError(f"{self.subject}: {self.text}; {self.fix}.")


def raise_problem(findings: Iterable[Finding]) -> None:
    """Raise the first problem among ``findings`` as a one-sentence UserError; do nothing if there is none."""
    for finding in findings:
        if finding.state is State.PROBLEM:
            raise finding.error()


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type if the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
