"""Proves that a change does not alter numbers: ``python -m tests.same --base COMMIT``, or ``make same BASE=COMMIT``.

Runs the tiny sweeps, pretrainings and every method with every objective (`numbers`) on the commit and on the working
tree, with the same interpreter, and compares what they computed bit by bit (`compare`). The base's numbers are kept, as
a commit does not change.

A change of the mathematics says so in a commit of its own, which names in ``expected.json`` what it changes, and why:

    {"methods/*objective=iql*/train/*": "the expectile is 0.7 now, as in the paper's revision"}

Keys are those that the table of differences shows; ``*`` stands for anything. A pattern that nothing matches any more,
because the base has the change as well, may go.
"""

import argparse
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

# relative, as tests find this package as ``same``
from . import numbers
from .compare import Comparison, Finding, compare

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path.home() / ".cache" / "spin-rl" / "same"
COMPUTING = ("torch", "numpy", "scipy", "mujoco", "dm_control", "gymnasium", "pyarrow", "ray", "optuna")
"""Kept numbers are valid for one set of versions of these packages; others, such as tools, change no number."""
SHOWN = 10
"""Entries (trials, models, datasets) shown of each group, with the first difference of each."""


class UsageError(Exception):
    """Something that was asked for cannot be had; one sentence."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare; 0 where all is the same, 1 where anything differs, 2 where it cannot be compared."""
    parser = argparse.ArgumentParser(prog="python -m tests.same", description="Do a commit and the working tree agree?")
    parser.add_argument("--base", default="HEAD", help="the commit to compare the working tree with (HEAD)")
    parser.add_argument("--only", default=",".join(numbers.PARTS), help=f"parts of it ({','.join(numbers.PARTS)})")
    parser.add_argument("--no-cache", action="store_true", help="compute the base's numbers even where they are kept")
    options = parser.parse_args(arguments)
    width = None if sys.stdout.isatty() else 200  # a file is not read at the width of a terminal
    console = Console(width=width, highlight=False)
    try:
        parts = parts_of(options.only)
        expected = read_expected(Path(__file__).with_name("expected.json"))
        commit = commit_of(options.base)
        with tempfile.TemporaryDirectory(prefix="spin-rl-same-") as folder:
            here = Path(folder) / "here"
            copy_working_tree(here)  # now, so that it can be edited meanwhile
            base_record = base_numbers(commit, parts, Path(folder), console, use_cache=not options.no_cache)
            here_record = {}
            say = _teller(console, "working tree")
            started = time.monotonic()
            try:
                for part in parts:
                    out = Path(folder) / "of-here" / part
                    here_record[part] = numbers.collect(here, out, part, wanted=base_record[part]["names"], say=say)
            except numbers.CollectionError as error:
                console.print(f"[red]The working tree does not do what {commit[:12]} does:[/] {escape(str(error))}")
                return 1
            say(f"all: {time.monotonic() - started:.0f} s")
    except UsageError as error:
        print(f"same: {error}", file=sys.stderr)
        return 2
    comparison = compare(base_record, here_record, expected)
    show(comparison, commit, console)
    return int(comparison.fails)


def parts_of(text: str) -> list[str]:
    """The parts in ``a,b``, in their own order.

    Raises:
        UsageError: there is no such part.
    """
    given = [name.strip() for name in text.split(",")]
    for name in given:
        if name not in numbers.PARTS:
            raise UsageError(f"There is no part '{name}'; --only takes {', '.join(numbers.PARTS)}.")
    return [name for name in numbers.PARTS if name in given]


def read_expected(path: Path) -> dict[str, str]:
    """Patterns of differences that are meant, with their reasons; none where there is no such file.

    Raises:
        UsageError: the file does not hold texts by name.
    """
    if not path.is_file():
        return {}
    try:
        expected = json.loads(path.read_text())
    except ValueError as error:
        raise UsageError(f"{path} is no JSON ({error}).") from error
    if not isinstance(expected, dict) or not all(isinstance(reason, str) and reason for reason in expected.values()):
        raise UsageError(f"{path} has to give a reason, as a text, for every pattern of keys.")
    return expected


def commit_of(name: str) -> str:
    """The full hash of a commit; UsageError where there is none of that name."""
    answer = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}", check=False)
    if answer.returncode:
        raise UsageError(f"'{name}' is no commit of the repository in {ROOT}; give one with --base.")
    return answer.stdout.decode().strip()


def export(commit: str, folder: Path) -> None:
    """Write the files of ``commit`` into ``folder``; the repository stays as it is."""
    with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", commit).stdout)) as archive:
        archive.extractall(folder, filter="data")


def copy_working_tree(folder: Path) -> None:
    """Write the working tree's files into ``folder``: those that git knows, and new ones that it does not ignore."""
    listed = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard").stdout.decode()
    for name in dict.fromkeys(listed.rstrip("\0").split("\0")):
        source = ROOT / name
        if source.is_file() or source.is_symlink():  # one that was deleted is listed, too
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, folder / name, follow_symlinks=False)  # the package links to its parts


def _git(*words: str, check: bool = True) -> "subprocess.CompletedProcess[bytes]":
    try:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, check=check)
    except FileNotFoundError:
        raise UsageError("There is no git here, which has the commit to compare with; install it.") from None
    except subprocess.CalledProcessError as error:
        raise UsageError(f"git {words[0]} failed: {error.stderr.decode().strip()}.") from error


def base_numbers(
    commit: str, parts: Sequence[str], folder: Path, console: Console, *, use_cache: bool
) -> dict[str, Any]:
    """The records of ``parts`` at ``commit``: kept ones, and those that are computed and kept now.

    Args:
        commit: full hash.
        parts: some of `numbers.PARTS`.
        folder: where the commit is written out and run; temporary.
        console: shows the progress.
        use_cache: whether records that are kept count.

    Raises:
        UsageError: the commit cannot be run.
    """
    path = CACHE / f"{commit}-{cache_key()}.json"
    say = _teller(console, f"base {commit[:12]}")
    kept = _read_cache(path)
    known = kept if use_cache else {}
    missing = [part for part in parts if part not in known]
    if len(missing) < len(parts):
        say(f"{', '.join(part for part in parts if part in known)}: as kept in {path}")
    if missing:
        export(commit, folder / "base")
        started = time.monotonic()
        for part in missing:
            try:
                known[part] = numbers.collect(folder / "base", folder / "of-base" / part, part, say=say)
            except numbers.CollectionError as error:
                raise UsageError(f"{commit[:12]} cannot be run, so nothing can be compared with it: {error}") from error
            _write_cache(path, {**kept, **known})
        say(f"all: {time.monotonic() - started:.0f} s")
    return {part: known[part] for part in parts}


def cache_key() -> str:
    """A digest of what a commit's numbers depend on besides the commit: packages, processor, and what is collected."""
    packages = [f"{name}=={version(name)}" for name in COMPUTING]
    content = Path(numbers.__file__).read_text()
    parts = [sys.version, *packages, _processor(), content]
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=8).hexdigest()


def _processor() -> str:
    """Model and instruction sets: libraries choose their kernels by them, and each rounds in its own way."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return "\n".join(
        sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    )


def _read_cache(path: Path) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError):  # not there, or torn
        return {}
    return kept if isinstance(kept, dict) else {}


def _write_cache(path: Path, records: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "w") as file:
        json.dump(records, file)
    Path(temporary).replace(path)


def _teller(console: Console, side: str) -> Callable[[str], None]:
    return lambda text: console.print(f"[dim]{side}[/] {escape(text)}", soft_wrap=True)


def show(comparison: Comparison, commit: str, console: Console) -> None:
    """Print what was compared, then what is not the same."""
    areas = list(dict.fromkeys([*comparison.compared, *(finding.area for finding in comparison.findings)]))
    table = Table("part", "command", *(f"{kind}s" for kind in ("trial", "model", "dataset", "value")), "differ")
    for area in areas:
        counts = comparison.compared.get(area, Counter())
        failing = sum(finding.fails for finding in comparison.findings if finding.area == area)
        cells = [str(counts[kind] or "") for kind in ("trial", "model", "dataset", "values")]
        table.add_row(*map(escape, area), *cells, f"[red]{failing}[/]" if failing else "[green]0[/]")
    console.print(table)
    if comparison.findings:
        console.print(_differences(comparison, commit))
    for pattern in comparison.unused:
        console.print(f"expected.json: nothing that differs is called {escape(pattern)}", soft_wrap=True)
    failing = sum(finding.fails for finding in comparison.findings)
    values = sum(counts["values"] for counts in comparison.compared.values())
    if failing:
        console.print(f"[red]{failing:,} differences[/] from {commit[:12]}, in {values:,} values compared.")
    else:
        console.print(f"[green]The same as {commit[:12]}[/]: {values:,} values, bit by bit.")


def _differences(comparison: Comparison, commit: str) -> Table:
    """The first difference of each entry, where it began, in full precision; of every verdict in every group."""
    table = Table(title="What is not the same", title_justify="left")
    for heading in ("first value of each entry", commit[:12], "working tree", "and more", ""):
        table.add_column(heading, overflow="fold")
    groups: dict[tuple[str, ...], dict[str, list[Finding]]] = {}
    for finding in comparison.findings:
        entries = groups.setdefault((*finding.area, finding.verdict, finding.reason), {})
        entries.setdefault(finding.entry, []).append(finding)
    for entries in groups.values():
        for first, *others in list(entries.values())[:SHOWN]:
            verdict = f"changed on purpose: {first.reason}" if first.reason else first.verdict
            cells = (first.key, _text(first.base), _text(first.here), f"+ {len(others)}" if others else "")
            table.add_row(*map(escape, cells), f"[{'red' if first.fails else 'yellow'}]{escape(verdict)}[/]")
        if len(entries) > SHOWN:
            table.add_row(f"... and {len(entries) - SHOWN} entries more")
    return table


def _text(value: Any) -> str:
    """A value with all its digits."""
    return value if isinstance(value, str) else repr(value)


if __name__ == "__main__":
    sys.exit(main())
