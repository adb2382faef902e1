"""The manifests: valid by KubeRay's schemas and Kubernetes' own, confined pods, names that fit each other."""

import json
import os
import shlex
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import typer
from manifests import MANIFESTS, ROOT, documents, pod_specs, ray_clusters
from typer.core import TyperGroup

from spin_rl.cli import app

SCHEMAS = Path(os.environ.get("SPIN_RL_SCHEMAS", ROOT.parent / "shared" / "schemas"))
DOCUMENTS = [(path.name, document) for path in MANIFESTS for document in documents(path)]
OWN_KINDS = ("RayCluster", "RayJob")


@pytest.mark.parametrize("kind", OWN_KINDS)
def test_what_is_kuberays_follows_its_schema(kind: str) -> None:
    file = SCHEMAS / f"{kind}-v1.schema.json"
    if not file.is_file():
        pytest.skip(f"no {file}; SPIN_RL_SCHEMAS names the folder of KubeRay's schemas")
    ours = [document for _, document in DOCUMENTS if document["kind"] == kind]
    assert ours
    for document in ours:
        jsonschema.validate(document, json.loads(file.read_text()), cls=jsonschema.Draft7Validator)


def test_what_is_kubernetes_own_follows_its_schema() -> None:
    ours = [document for _, document in DOCUMENTS if document["kind"] not in OWN_KINDS]
    pods = [pod for _, document in DOCUMENTS for pod in pod_specs(document)]
    whole = [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": pod} for pod in pods]
    for document in [*ours, *whole]:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_every_pod_is_confined_as_the_namespace_demands() -> None:
    """What the pod security standard `restricted` asks for, and requests for a scheduler to go by."""
    pods = [(name, pod) for name, document in DOCUMENTS for pod in pod_specs(document)]
    assert len(pods) >= 8
    for name, pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False, name
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}, name
            assert set(container["resources"]["requests"]) >= {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name


def test_every_ray_cluster_asks_for_its_token() -> None:
    clusters = list(ray_clusters())
    assert len(clusters) == 3
    for spec in clusters:
        assert spec["authOptions"] == {"mode": "token", "secretName": "ray-token"}
        assert {"name": "RAY_AUTH_MODE", "value": "token"} in next(pod_specs(spec))["containers"][0]["env"]


def test_the_manifests_are_of_the_ray_that_is_pinned() -> None:
    pins = (ROOT / "requirements.txt").read_text().splitlines()
    pinned = next(line.split("==")[1].split()[0] for line in pins if line.startswith("ray=="))
    assert {spec["rayVersion"] for spec in ray_clusters()} == {pinned}


def test_claims_and_networks_are_those_that_are_there() -> None:
    claims = {document["metadata"]["name"] for _, document in DOCUMENTS if document["kind"] == "PersistentVolumeClaim"}
    for name, document in DOCUMENTS:
        for pod in pod_specs(document):
            for volume in pod.get("volumes", []):
                claim = volume.get("persistentVolumeClaim", {}).get("claimName")
                assert claim is None or claim in claims, name
            mounted = {mount["name"] for container in pod["containers"] for mount in container.get("volumeMounts", [])}
            assert mounted == {volume["name"] for volume in pod.get("volumes", [])}, name
    for spec in ray_clusters():  # what the network policies go by
        for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]:
            labels = group["template"]["metadata"]["labels"]
            assert labels == {"app.kubernetes.io/part-of": "spin-rl", "app.kubernetes.io/component": "ray"}


def test_jobs_are_commands_that_there_are() -> None:
    entrypoints = [document["spec"]["entrypoint"] for _, document in DOCUMENTS if document["kind"] == "RayJob"]
    assert entrypoints
    for entrypoint in entrypoints:
        program, *arguments = shlex.split(entrypoint)
        assert program == "spin-rl"
        command = typer.main.get_command(app)
        context = typer.Context(command)
        while isinstance(command, TyperGroup):
            _, command, arguments = command.resolve_command(context, arguments)
        command.make_context(command.name, arguments)
