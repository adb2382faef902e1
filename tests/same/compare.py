"""Compares what two checkouts computed, bit by bit."""

import math
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

ABSENT = "–"
"""Stands for a value that a side does not have."""

DIFFERS, MISSING, ONLY_HERE = "differs", "missing from the working tree", "only here"


@dataclass(frozen=True)
class Finding:
    """A value, or an entry as a whole, that is not the same on both sides.

    Attributes:
        entry: ``<part>/<group>/<kind>/<what tells it apart>``; or ``<part>/<kind>/<name>`` of what there is to run.
        name: of the value; empty for an entry as a whole.
        base: what it is at the base; `ABSENT` where it is not there.
        here: what it is in the working tree.
        verdict: `DIFFERS`, `MISSING` or `ONLY_HERE`.
        reason: why it was changed on purpose; empty where that is not said.
    """

    entry: str
    name: str
    base: Any
    here: Any
    verdict: str
    reason: str = ""

    @property
    def key(self) -> str:
        """What patterns are matched with, and what is shown."""
        return f"{self.entry}/{self.name}" if self.name else self.entry

    @property
    def fails(self) -> bool:
        """Whether it is an unintended change."""
        return self.verdict != ONLY_HERE and not self.reason

    @property
    def area(self) -> tuple[str, str]:
        """Its part and its group."""
        part, group, *_ = self.entry.split("/")
        return part, group


@dataclass
class Comparison:
    """What was compared and what was found.

    Attributes:
        compared: how many entries of each kind, and how many values, by (part, group).
        findings: whatever is not the same, in the order of the base's record.
        unused: patterns of expected differences that matched none.
    """

    compared: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    @property
    def fails(self) -> bool:
        """Whether anything differs or is missing that was not changed on purpose."""
        return any(finding.fails for finding in self.findings)


def compare(base: Mapping[str, Any], here: Mapping[str, Any], expected: Mapping[str, str] | None = None) -> Comparison:
    """Compare the records of some parts (`numbers.Record` by part).

    Args:
        base: what the base computed.
        here: what the working tree computed; the same parts.
        expected: patterns of keys, with ``*`` for anything, and why what they match was changed on purpose.
    """
    expected = expected or {}
    result, used = Comparison(), set()
    for part in base:
        for finding in [
            *_compare_names(part, base[part]["names"], here[part]["names"]),
            *_compare_entries(part, base[part]["entries"], here[part]["entries"], result.compared),
        ]:
            pattern = next((pattern for pattern in expected if fnmatchcase(finding.key, pattern)), None)
            if pattern is not None:
                used.add(pattern)
                finding = replace(finding, reason=expected[pattern])
            result.findings.append(finding)
    result.unused = [pattern for pattern in expected if pattern not in used]
    return result


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same bits; all NaNs are one value, 0.0 and -0.0 are two."""
    if isinstance(one, bool) or isinstance(other, bool) or not _is_number(one) or not _is_number(other):
        return type(one) is type(other) and one == other
    if isinstance(one, int) and isinstance(other, int):
        return one == other
    if math.isnan(one) or math.isnan(other):
        return math.isnan(one) and math.isnan(other)
    return struct.pack("<d", one) == struct.pack("<d", other)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _compare_names(part: str, base: Mapping[str, Sequence[str]], here: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Sweeps, methods and objectives that one side does not have; what is new was not run."""
    findings = []
    for kind in base:
        names, others = base[kind], here.get(kind, ())
        findings += [
            Finding(f"{part}/{kind}/{name}", "", "there", ABSENT, MISSING) for name in names if name not in others
        ]
        findings += [
            Finding(f"{part}/{kind}/{name}", "", ABSENT, "there", ONLY_HERE) for name in others if name not in names
        ]
    return findings


def _compare_entries(
    part: str,
    base: Sequence[Mapping[str, Any]],
    here: Sequence[Mapping[str, Any]],
    compared: dict[tuple[str, str], Counter[str]],
) -> list[Finding]:
    findings = []
    for group, kind in dict.fromkeys((entry["group"], entry["kind"]) for entry in [*base, *here]):
        ours, theirs = (
            [entry for entry in side if (entry["group"], entry["kind"]) == (group, kind)] for side in (base, here)
        )
        names = _telling_apart(ours, theirs)
        old, new = (_by_key(f"{part}/{group}/{kind}", side, names) for side in (ours, theirs))
        counts = compared.setdefault((part, group), Counter())
        for key in dict.fromkeys([*old, *new]):
            if key not in new:
                findings.append(Finding(key, "", "there", ABSENT, MISSING))
            elif key not in old:
                findings.append(Finding(key, "", ABSENT, "there", ONLY_HERE))
            else:
                counts[kind] += 1
                counts["values"] += len(old[key].keys() & new[key].keys())
                findings += _compare_values(key, old[key], new[key])
    return findings


def _compare_values(key: str, base: Mapping[str, Any], here: Mapping[str, Any]) -> list[Finding]:
    findings = []
    for name in dict.fromkeys([*base, *here]):
        if name not in here:
            findings.append(Finding(key, name, base[name], ABSENT, MISSING))
        elif name not in base:
            findings.append(Finding(key, name, ABSENT, here[name], ONLY_HERE))
        elif not same(base[name], here[name]):
            findings.append(Finding(key, name, base[name], here[name], DIFFERS))
    return findings


def _telling_apart(*sides: Sequence[Mapping[str, Any]]) -> list[str]:
    """Parameters that tell each side's entries apart, no more than are needed.

    What all entries of a side share is not among them, nor what goes with another parameter: a setting that is new,
    gone or changed in all of them is a finding in each, and they are compared nevertheless.
    """
    names: list[str] = []
    for name in dict.fromkeys(name for side in sides for entry in side for name in entry["params"]):
        if any(_distinct(side, [*names, name]) > _distinct(side, names) for side in sides):
            names.append(name)
    return names


def _distinct(entries: Sequence[Mapping[str, Any]], names: Sequence[str]) -> int:
    """How many of the entries these parameters tell apart; not to have one is a value, too."""
    return len({tuple(repr(entry["params"].get(name, ABSENT)) for name in names) for entry in entries})


def _by_key(prefix: str, entries: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """The numbers of the entries by what tells them apart; those that nothing does are numbered."""
    found: dict[str, Mapping[str, Any]] = {}
    for entry in entries:
        label = ",".join(f"{name}={entry['params'][name]}" for name in names if name in entry["params"])
        key = whole = f"{prefix}/{label}" if label else prefix
        number = 1
        while key in found:
            number += 1
            key = f"{whole}#{number}"
        found[key] = entry["numbers"]
    return found
