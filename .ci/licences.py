"""Checks the licences of the pinned packages, from their installed metadata; `--write` lists them in docs/licences.md.

Fails if a licence is not among the accepted ones, or if the page is out of date.
"""

import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, metadata, requires
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "licences.md"

# Permissive, or binding only for changes to the package itself, which we install unchanged.
ACCEPTED = {
    *(
        "0BSD",
        "Apache-2.0",
        "BSD",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "ISC",
        "MIT",
        "MIT-0",
        "MIT-CMU",
    ),
    *("LGPL", "LGPL-3.0-only", "MPL-2.0", "PSF-2.0", "Zlib"),
}
# Development tools that only read our files may also be under these: we neither link with nor ship them.
ACCEPTED_FOR_TOOLS = {"GPL-3.0"}

# Names in metadata that are not SPDX's.
SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "GNU Library or Lesser General Public License (LGPL)": "LGPL",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
# Packages without a licence in their metadata: from the licence file that they install.
KNOWN = {"huey": "MIT", "skops": "MIT"}

HEAD = """# Licences of the dependencies

The pinned packages by what their installed metadata say. `make licences` makes this page; `make check` fails where it
is stale or a licence is not among those that `.ci/licences.py` accepts. SPIN-RL is under [Apache-2.0](../LICENSE).

Not pinned, so not listed: NVIDIA's CUDA libraries, which a build of torch for the GPU brings under NVIDIA's own terms.
"""


def licence_of(name: str) -> str:
    """The licence in a package's metadata as an SPDX expression; empty if there is none."""
    found = metadata(name)
    if expression := found.get("License-Expression"):
        return expression
    classes = [line.rpartition(" :: ")[2] for line in found.get_all("Classifier", []) if line.startswith("License ::")]
    words = [name for name in classes if name not in ("OSI Approved", "DFSG approved")]
    field = (found.get("License") or "").strip()
    if not words and field and "\n" not in field:  # some packages put the whole text there
        words = [field]
    return " AND ".join(SPDX.get(word, word) for word in words) or KNOWN.get(canonicalize_name(name), "")


def is_accepted(expression: str, accepted: Iterable[str]) -> bool:
    """Whether at least one alternative of an SPDX expression consists of accepted licences only."""
    alternatives = re.split(r"\s+OR\s+", re.sub(r"[()]|\s+WITH\s+\S+", "", expression))
    return any(set(re.split(r"\s+AND\s+", part)) <= set(accepted) for part in alternatives)


def pinned() -> list[str]:
    """Names in requirements.txt."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines())
    return sorted(canonicalize_name(line.partition("==")[0]) for line in lines if line)


def needed_to_run() -> set[str]:
    """Names of all direct and indirect dependencies, including those of every extra except the development tools."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = {name: lines for name, lines in project["optional-dependencies"].items() if name != "dev"}
    waiting = [Requirement(line) for line in chain(project["dependencies"], *extras.values())]
    found: set[str] = set()
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if (name, frozenset(wanted.extras)) in seen:
            continue
        seen.add((name, frozenset(wanted.extras)))
        try:
            lines = requires(name) or []
        except PackageNotFoundError:  # for another system, or left out on purpose
            continue
        found.add(name)
        for line in lines:
            further = Requirement(line)
            if not further.marker or any(further.marker.evaluate({"extra": extra}) for extra in ("", *wanted.extras)):
                waiting.append(further)
    return found


def main() -> int:
    run = needed_to_run()
    licences = {name: licence_of(name) for name in pinned()}
    refused = [
        f"{name}: {licence or 'no licence in its metadata'}"
        for name, licence in licences.items()
        if not is_accepted(licence, ACCEPTED if name in run else ACCEPTED | ACCEPTED_FOR_TOOLS)
    ]
    if refused:
        print("Not among the licences that .ci/licences.py accepts:", *refused, sep="\n  ")
        return 1
    page = HEAD
    for title, chosen in (("Needed to run", run), ("Development only", set(licences) - run)):
        rows = [f"| {name} | {licence} |" for name, licence in licences.items() if name in chosen]
        page += "\n".join(["", f"## {title}", "", "| package | licence |", "|---|---|", *rows, ""])
    if "--write" in sys.argv[1:]:
        PAGE.write_text(page)
    elif not PAGE.is_file() or PAGE.read_text() != page:
        print(f"{PAGE.relative_to(ROOT)} is stale: run `make licences`.")
        return 1
    print(f"licences of {len(licences)} packages: all accepted")
    return 0


if __name__ == "__main__":
    sys.exit(main())
