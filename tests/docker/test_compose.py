"""compose.yaml: whole by its schema, no secret in it, and nothing beyond loopback unless asked."""

import importlib.resources
import json
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml
from manifests import DOCKER, compose, make_secrets

FILES = sorted(DOCKER.glob("compose*.yaml"))


def test_the_compose_files_follow_the_specification() -> None:
    schema = importlib.resources.files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json"
    for file in FILES:
        jsonschema.validate(yaml.safe_load(file.read_text()), json.loads(schema.read_text()))


def test_compose_itself_takes_the_files(tmp_path: Path) -> None:
    if not (program := shutil.which("docker-compose")):
        pytest.skip("no docker-compose on this machine")
    shutil.copytree(DOCKER, tmp_path / "docker", ignore=shutil.ignore_patterns("secrets"))
    make_secrets(tmp_path / "docker")
    command = [program, *(f"--file={tmp_path}/docker/{file.name}" for file in FILES), "config", "--quiet"]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_every_secret_is_a_file_that_make_secrets_makes(tmp_path: Path) -> None:
    secrets = make_secrets(tmp_path)
    project = compose()
    files = {name: Path(secret["file"]).name for name, secret in project["secrets"].items()}
    assert set(files.values()) | {"s3_users.json"} == {path.name for path in secrets.iterdir()}
    used = {name for service in project["services"].values() for name in service.get("secrets", [])}
    assert used == set(files)
    assert secrets.stat().st_mode & 0o077 == 0
    assert len({path.read_text() for path in secrets.iterdir()}) == len(files)


def test_make_secrets_leaves_what_is_there(tmp_path: Path) -> None:
    before = {path: path.read_text() for path in make_secrets(tmp_path).iterdir()}
    assert {path: path.read_text() for path in make_secrets(tmp_path).iterdir()} == before


def test_no_secret_stands_in_the_file_or_on_a_command_line() -> None:
    for name, service in compose()["services"].items():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|TOKEN|SECRET|CREDENTIAL", variable):
                assert str(value).startswith("/run/secrets/"), f"{name}: {variable}"
                assert Path(str(value)).name in service["secrets"], f"{name}: {variable}"
            assert not re.search("//[^/]*:[^/]*@", str(value)), f"{name}: {variable} carries a password"


def test_nothing_is_published_beyond_loopback_unless_asked() -> None:
    published = [port for service in compose()["services"].values() for port in service.get("ports", [])]
    assert sorted(published) == ["127.0.0.1:5000:5000", "127.0.0.1:8265:8265"]


def test_the_stores_are_reached_by_mlflow_alone() -> None:
    project = compose()
    networks = {name: set(service["networks"]) for name, service in project["services"].items()}
    assert {name for name, own in networks.items() if "stores" in own} == {"mlflow", "postgres", "s3"}
    assert networks["postgres"] == networks["s3"] == {"stores"}
    assert project["networks"]["stores"]["internal"] is True


def test_our_own_containers_run_without_privileges() -> None:
    own = {name: service for name, service in compose()["services"].items() if service["image"].startswith("spin-rl:")}
    assert set(own) == {"head", "worker", "mlflow"}
    for name, service in own.items():
        assert (service["cap_drop"], service["security_opt"]) == (["ALL"], ["no-new-privileges:true"]), name
    assert re.search(r"^USER 1000$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
