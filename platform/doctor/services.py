"""Servers that commands use: MLflow's, and the package index that pip installs from."""

import re
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from spin_rl.platform.common.findings import Finding, State, first_line
from spin_rl.platform.doctor.storage import check_writable

_TIMEOUT = 5.0  # seconds for one answer over the network


def check_tracking(uri: str) -> Finding:
    """Whether MLflow's server answers, or the folder of its SQLite file is writable."""
    if uri.startswith("sqlite:///"):
        file = Path(uri.removeprefix("sqlite:///"))
        finding = check_writable("storage", str(file.parent))
        if finding.state is State.PROBLEM:
            return Finding(
                "tracking", State.PROBLEM, finding.text, "set MLFLOW_TRACKING_URI to sqlite:///<another file>"
            )
        return Finding("tracking", State.OK, f"SQLite file {file}")
    if not uri.startswith(("http://", "https://")):
        return Finding(
            "tracking",
            State.WARNING,
            f"{hide_password(uri)} is neither a server nor a SQLite file; not checked",
            "set MLFLOW_TRACKING_URI to http://host:5000 or sqlite:///file",
        )
    parts = urlsplit(uri)
    health = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/health"
    try:
        with urllib.request.urlopen(health, timeout=_TIMEOUT):
            return Finding("tracking", State.OK, f"{hide_password(uri)} answers")
    except (OSError, ValueError) as error:
        return Finding(
            "tracking",
            State.PROBLEM,
            f"{hide_password(uri)} does not answer: {first_line(error)}",
            "start the server, or unset MLFLOW_TRACKING_URI to track in a SQLite file",
        )


def check_registry(url: str | None = None) -> Finding:
    """Whether the package index that pip uses answers; only ``make setup`` and jobs with ``--pip`` need it."""
    url = url or _index_url()
    fix = "correct PIP_INDEX_URL or the network; only installing packages and jobs with --pip need it"
    try:
        page = urllib.request.Request(f"{url.rstrip('/')}/pip/", method="HEAD")
        with urllib.request.urlopen(page, timeout=_TIMEOUT):
            pass
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            return Finding(
                "package index", State.WARNING, f"{hide_password(url)} answers {error.code} {error.reason}", fix
            )
    except (OSError, ValueError) as error:
        return Finding(
            "package index", State.WARNING, f"{hide_password(url)} does not answer: {first_line(error)}", fix
        )
    return Finding("package index", State.OK, f"{hide_password(url)} answers")


def _index_url() -> str:
    """The index that pip uses, according to its environment and its configuration files."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    found = re.search(r"^(?::env:|global|install)\.index-url='(.+)'$", answer, re.MULTILINE)
    return found[1] if found else "https://pypi.org/simple/"


def hide_password(uri: str) -> str:
    """``uri`` without the user and password that it may hold."""
    return re.sub(r"//[^/@]*@", "//***@", uri)
