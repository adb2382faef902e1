"""What the doctor says of versions, storage, clusters and servers that are in order, moved, or not there."""

import http.server
import socket
import threading
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from spin_rl.platform import doctor
from spin_rl.platform.doctor import State


@pytest.fixture
def closed_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def server() -> Iterator[str]:
    """A server that answers every path with 200, as MLflow's /health does, and so is no Ray."""

    class Handler(http.server.BaseHTTPRequestHandler):
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
    (finding,) = doctor.check_versions(pins)
    assert finding.state is State.WARNING
    assert f"rich {version('rich')} (pinned 1.2.3)" in finding.text
    assert "numpy" not in finding.text
    assert finding.mend == "make setup"


def test_a_missing_dependency_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor.importlib.metadata, "requires", lambda _: ["surely-missing>=2", "numpy>=1"])
    (finding,) = doctor.check_versions(tmp_path / "none.txt")
    assert (finding.state, finding.text) == (State.PROBLEM, "surely-missing is missing (wanted >=2)")


def test_the_build_of_a_pinned_version_does_not_matter() -> None:
    assert doctor._same("2.13.0+cpu", "2.13.0")
    assert not doctor._same("2.13.1+cpu", "2.13.0")


def test_storage_that_is_not_there_yet_is_judged_by_its_parent_and_not_made(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet"
    assert doctor.check_writable("storage", str(folder)).state is State.OK
    assert doctor.check_writable("storage", "memory://bucket/results").state is State.OK
    assert list(tmp_path.iterdir()) == []


def test_storage_that_cannot_be_written_is_a_problem() -> None:
    finding = doctor.check_writable("storage", "/proc/results")
    assert finding.state is State.PROBLEM
    assert "/proc/results cannot be written" in finding.text
    assert "--storage" in finding.mend
    assert doctor.check_writable("storage", "nowhere://bucket/results").state is State.PROBLEM


def test_a_cluster_that_does_not_answer_and_one_that_is_not_ray(closed_port: int, server: str) -> None:
    for address in (f"127.0.0.1:{closed_port}", f"http://127.0.0.1:{closed_port}"):
        assert "does not answer" in doctor.check_ray(address).text
    finding = doctor.check_ray(server)
    assert finding.state is State.PROBLEM
    assert "is no Ray cluster for us" in finding.text


def test_a_tracking_server_is_asked_and_its_password_is_not_shown(closed_port: int, server: str) -> None:
    assert doctor.check_tracking(server).state is State.OK
    finding = doctor.check_tracking(f"http://user:secret@127.0.0.1:{closed_port}")
    assert finding.state is State.PROBLEM
    assert "secret" not in finding.text + finding.mend
    assert doctor.check_tracking("sqlite:////proc/mlflow.db").state is State.PROBLEM


def test_the_command_fails_only_for_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    import typer
    from typer.testing import CliRunner

    from spin_rl.platform.commands.doctor import doctor as command

    app = typer.Typer()
    app.command()(command)
    for state, code in ((State.OK, 0), (State.WARNING, 0), (State.PROBLEM, 1)):
        finding = doctor.Finding("thing", state, "as it is [odd]", "mend it")
        monkeypatch.setattr(doctor, "examine", lambda finding=finding, **_: [finding])
        result = CliRunner().invoke(app, [])
        assert result.exit_code == code
        assert "thing: as it is [odd]" in result.output
        assert "-> mend it" in result.output
