"""The doctor's findings about versions, storage, clusters and servers that are fine, wrong, or missing."""

import errno
import http.server
import json
import socket
import sys
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from spin_rl.commands.doctor import doctor as command
from spin_rl.platform.cluster.client import check_cluster_versions, look
from spin_rl.platform.common.findings import Finding, State
from spin_rl.platform.doctor import machine as doctor_machine
from spin_rl.platform.doctor.clocks import judge_clocks
from spin_rl.platform.doctor.nodes import NodeReport, _judge_node, _judge_place
from spin_rl.platform.doctor.services import check_registry, check_tracking
from spin_rl.platform.doctor.storage import check_writable, why_not_written


@pytest.fixture
def closed_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def server() -> Iterator[str]:
    """A server that answers every path with 200, as MLflow's /health does, and so is not Ray."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(404)
            self.end_headers()

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"OK")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_a_moved_pin_is_named_with_both_versions(tmp_path: Path) -> None:
    pins = tmp_path / "requirements.txt"
    pins.write_text(f"# made by a tool\nnumpy=={version('numpy')}  # via us\nrich==1.2.3\n")
    finding = doctor_machine.check_versions(pins)
    assert finding.state is State.WARNING
    assert f"rich {version('rich')} (pinned 1.2.3)" in finding.text
    assert "numpy" not in finding.text
    assert "-m pip install -r" in finding.fix
    (tmp_path / "Makefile").touch()
    assert doctor_machine.check_versions(pins).fix == "make setup"


def test_a_missing_dependency_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["surely-missing>=2", "numpy>=1"]\n')
    monkeypatch.setattr("spin_rl.platform.common.pins._ROOT", tmp_path)
    finding = doctor_machine.check_versions(tmp_path / "none.txt")
    assert (finding.state, finding.text) == (State.PROBLEM, "surely-missing is missing (wanted >=2)")


def test_the_build_of_a_pinned_version_does_not_matter() -> None:
    assert doctor_machine._same("2.13.0+cpu", "2.13.0")
    assert not doctor_machine._same("2.13.1+cpu", "2.13.0")


def test_storage_that_is_not_there_yet_is_judged_by_its_parent_and_not_made(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    assert check_writable("storage", str(folder)).state is State.OK
    assert check_writable("storage", "memory://bucket/results").state is State.OK
    assert list(tmp_path.iterdir()) == []


def test_storage_that_cannot_be_written_is_a_problem() -> None:
    finding = check_writable("storage", "/proc/results")
    assert finding.state is State.PROBLEM
    assert "/proc/results cannot be written" in finding.text
    assert "--storage" in finding.fix
    assert check_writable("storage", "nowhere://bucket/results").state is State.PROBLEM


@pytest.mark.parametrize(
    ("number", "said"),
    [(errno.ENOSPC, "is full"), (errno.EROFS, "is read-only"), (errno.EACCES, "cannot be written: [Errno 13]")],
)
def test_a_place_that_refuses_a_file_is_reported_with_the_reason(number: int, said: str) -> None:
    text, fix = why_not_written("/mnt/results", OSError(number, "as the system says"), "--storage")
    assert said in text
    assert "--storage" in fix


def test_a_cluster_that_does_not_answer_and_one_that_is_not_ray(closed_port: int, server: str) -> None:
    client, (finding,) = look(f"http://127.0.0.1:{closed_port}")
    assert client is None
    assert "does not answer" in finding.text
    client, (finding,) = look(server)
    assert (client, finding.state) == (None, State.PROBLEM)
    assert "is not a usable Ray cluster" in finding.text


@pytest.mark.parametrize(
    ("ray", "python", "state"),
    [
        (version("ray"), "3.11.9", State.OK if sys.version_info[:2] == (3, 11) else State.WARNING),
        (version("ray"), "3.99.0", State.WARNING),
        (version("ray"), "3.10.2", State.PROBLEM),
        ("2.40.0", "3.11.9", State.PROBLEM),
    ],
)
def test_a_cluster_of_other_versions_is_named_with_both(ray: str, python: str, state: State) -> None:
    (finding,) = check_cluster_versions("http://head:8265", ray, python)
    assert finding.state is state
    if state is not State.OK:
        assert ("2.40.0" if ray == "2.40.0" else python) in finding.text
        assert finding.fix


def report(**found: object) -> NodeReport:
    return NodeReport("10.0.0.7", **{"promised_gpus": 0.0, "gpus": 0, "versions": Finding("v", State.OK, ""), **found})


def test_a_node_without_the_gpu_that_it_promised_and_one_whose_disk_is_full() -> None:
    (finding,) = _judge_node(report(promised_gpus=2.0, gpus=1))
    assert finding.state is State.PROBLEM
    assert "promises 2 GPUs, torch can use 1" in finding.text
    (finding,) = _judge_node(report(free={"storage": 0.2}))
    assert (finding.state, finding.subject) == (State.PROBLEM, "node 10.0.0.7")
    assert _judge_node(report(promised_gpus=1.0, gpus=1, free={"storage": 50.0})) == []


def test_storage_is_shared_only_if_every_node_sees_all_files() -> None:
    nodes = [{"NodeID": "a"}, {"NodeID": "b"}]
    good = [(node, report()) for node in nodes]
    assert _judge_place("storage", "/mnt", good, {"a", "b"}).state is State.OK
    assert "not shared" in _judge_place("storage", "/mnt", good, {"a"}).text
    blind = [good[0], (nodes[1], report(missing=("storage",)))]
    assert "not shared" in _judge_place("storage", "/mnt", blind, {"a", "b"}).text
    refused = [good[0], (nodes[1], report(failed={"storage": ("/mnt is full", "free some space there")}))]
    assert _judge_place("storage", "/mnt", refused, {"a"}).text == "on 10.0.0.7, /mnt is full"


def test_a_clock_counts_as_wrong_only_beyond_doubt() -> None:
    assert judge_clocks({"a": (3.0, 2.5), "b": (0.0, 0.0)}).state is State.OK
    assert judge_clocks({"a": (3.0, 0.1), "b": (0.0, 0.0)}).state is State.WARNING
    finding = judge_clocks({"a": (0.0, 0.1), "b": (-90.0, 0.1)})
    assert finding.state is State.PROBLEM
    assert "that of b is 90 s off" in finding.text


def test_an_index_that_does_not_answer_is_no_more_than_a_warning(closed_port: int, server: str) -> None:
    assert check_registry(f"{server}/simple").state is State.OK
    finding = check_registry(f"http://me:secret@127.0.0.1:{closed_port}/simple")
    assert finding.state is State.WARNING
    assert "secret" not in finding.text


def test_a_tracking_server_is_asked_and_its_password_is_not_shown(closed_port: int, server: str) -> None:
    assert check_tracking(server).state is State.OK
    finding = check_tracking(f"http://user:secret@127.0.0.1:{closed_port}")
    assert finding.state is State.PROBLEM
    assert "secret" not in finding.text + finding.fix
    assert check_tracking("sqlite:////proc/mlflow.db").state is State.PROBLEM


def test_the_command_fails_only_for_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer()
    app.command()(command)
    for state, code in ((State.OK, 0), (State.WARNING, 0), (State.PROBLEM, 2)):
        finding = Finding("thing", state, "as it is [odd]", "fix it")
        monkeypatch.setattr("spin_rl.commands.doctor.examine_machine", lambda finding=finding, **_: [finding])
        result = CliRunner().invoke(app, [])
        assert result.exit_code == code
        assert "thing: as it is [odd]" in result.output
        assert "-> fix it" in result.output
        (printed,) = json.loads(CliRunner().invoke(app, ["--json"]).output)
        assert printed == {"subject": "thing", "state": state, "text": "as it is [odd]", "fix": "fix it"}
