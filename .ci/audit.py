"""Asks pip-audit for known vulnerabilities of the pins.

If its service cannot be reached, as behind a mirror of the registry, nothing is audited: the script says so and passes.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PINS = Path(__file__).resolve().parent.parent / "requirements.txt"

# Vulnerability -> why it does not affect us, or what we are waiting for. One that pip-audit no longer finds must go.
EXCEPTIONS: dict[str, str] = {}


def ask(pins: Path) -> tuple[list[dict[str, Any]], str]:
    """What pip-audit reports for each package, and its error message if it reports nothing."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(pins), "--no-deps", "--disable-pip"]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", "15"]
    answer = subprocess.run(command, capture_output=True, text=True)
    try:
        return json.loads(answer.stdout)["dependencies"], ""
    except (ValueError, KeyError):
        return [], (answer.stderr.strip().splitlines() or ["no answer"])[-1]


def judge(packages: list[dict[str, Any]], exceptions: dict[str, str]) -> list[str]:
    """Problems: vulnerabilities without an exception, exceptions without a vulnerability."""
    known = dict.fromkeys(exceptions, False)
    wrong = []
    for package in packages:
        for found in package.get("vulns", []):
            names = {found["id"], *found.get("aliases", [])}
            if matching := names & set(exceptions):
                known |= dict.fromkeys(matching, True)
            else:
                fix = ", ".join(found["fix_versions"]) or "none yet"
                wrong.append(f"{package['name']} {package['version']}: {found['id']} (fixed in {fix})")
    return wrong + [f"{name} is an exception that is no longer needed" for name, used in known.items() if not used]


def main() -> int:
    lines = [line.partition("#")[0].strip() for line in PINS.read_text().splitlines()]
    pins = [line for line in lines if line]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        file.write_text(f"{pins[0]}\n")  # one package first: a mirror of the registry may not answer at all
        packages, complaint = ask(file)
        if packages and "skip_reason" not in packages[0]:
            file.write_text("\n".join(pins))
            packages, complaint = ask(file)
    audited = [package for package in packages if "skip_reason" not in package]
    if not audited:
        reason = complaint or packages[0]["skip_reason"]
        print(f"pip-audit: NOTHING WAS AUDITED, its vulnerability service cannot be reached from here ({reason})")
        return 0
    wrong = judge(audited, EXCEPTIONS)
    if skipped := [package["name"] for package in packages if "skip_reason" in package]:
        print(f"pip-audit could not audit: {', '.join(skipped)}")
    print(*wrong, sep="\n") if wrong else print(f"pip-audit: no known vulnerability in {len(audited)} packages")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
