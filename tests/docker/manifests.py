"""What the tests read of docker/: the services of the compose file, the documents of the manifests, the secrets."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
MANIFESTS = sorted((DOCKER / "kubernetes").glob("*.yaml"))


def compose() -> dict[str, Any]:
    """The compose file with its variables at their defaults."""
    text = (DOCKER / "compose.yaml").read_text()
    return yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))


def documents(path: Path) -> list[dict[str, Any]]:
    """The documents of a manifest."""
    return list(yaml.safe_load_all(path.read_text()))


def pod_specs(document: Any) -> Iterator[dict[str, Any]]:
    """Every pod that a document describes, at any depth."""
    if isinstance(document, dict):
        if "containers" in document:
            yield document
        for value in document.values():
            yield from pod_specs(value)
    elif isinstance(document, list):
        for value in document:
            yield from pod_specs(value)


def ray_clusters() -> Iterator[dict[str, Any]]:
    """The specification of every Ray cluster in the manifests."""
    for path in MANIFESTS:
        for document in documents(path):
            if document["kind"] == "RayCluster":
                yield document["spec"]
            elif document["kind"] == "RayJob":
                yield document["spec"]["rayClusterSpec"]


def make_secrets(folder: Path) -> Path:
    """Run make-secrets.sh in a folder of its own; returns where the secrets lie."""
    shutil.copy(DOCKER / "make-secrets.sh", folder)
    subprocess.run(["sh", folder / "make-secrets.sh"], check=True)
    return folder / "secrets"
