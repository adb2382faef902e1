"""The mirror against a real server with lost answers: values are sent again and are in the run once."""

import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mlflow import MlflowClient

from spin_rl.platform.common.json_files import read_json
from spin_rl.platform.results.files import MetricsFile, start_sweep
from spin_rl.platform.tracking.callback import MirrorThread
from spin_rl.platform.tracking.mirror import Mirror
from spin_rl.platform.tracking.server import free_port, start_server, stop_server
from tests.platform.sweep_fixture import params, write_trial


class Late(BaseHTTPRequestHandler):
    """Passes requests on, and holds the answers to the first writes back for longer than anybody waits."""

    server_address_behind = ""
    late = 0
    held = 0
    writes = ("runs/create", "runs/log-batch")
    lock = threading.Lock()

    def do_GET(self) -> None:
        self._pass_on()

    def do_POST(self) -> None:
        self._pass_on()

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = urllib.request.Request(self.server_address_behind + self.path, body or None, method=self.command)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        if self.path.endswith(self.writes):
            with self.lock:
                late = Late.late > 0
                Late.late, Late.held = Late.late - late, Late.held + late
            if late:
                return  # the connection closes without an answer, after the server has taken the values
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Addresses of a real server: its own, and one behind which its answers get lost."""
    port = free_port()
    server = start_server(f"sqlite:///{tmp_path}/mlflow.db", port)
    Late.server_address_behind = f"http://127.0.0.1:{port}"
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Late)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    yield Late.server_address_behind, f"http://127.0.0.1:{proxy.server_port}"
    proxy.shutdown()
    stop_server(server)


@pytest.mark.integration
def test_values_whose_answer_was_lost_are_sent_again_and_stand_there_once(
    tmp_path: Path, store: tuple[str, str]
) -> None:
    direct, late = store
    folder = tmp_path / "sweep"
    start_sweep(folder, name="s")
    write_trial(folder, "t0", params("spin", 0), state="running")
    file = MetricsFile(folder / "trials" / "t0" / "metrics.jsonl")
    Late.late = 5
    thread = MirrorThread(Mirror(folder, late, "tests"))
    thread.start()
    for updates in range(1100, 2001, 100):  # nobody waits for the store here
        file.append({"updates": updates, "timestamp": 1e9 + updates, "train/critic_loss": 1.0 * updates})
        thread.signal("t0")
    assert thread.finish(60.0)
    assert Late.held == 5
    client = MlflowClient(direct)
    experiment = client.get_experiment_by_name("tests")
    assert experiment is not None
    assert len(client.search_runs([experiment.experiment_id])) == 2  # the sweep and its trial
    run_id = read_json(folder / "trials" / "t0" / "mlflow.json")["run_id"]
    history = client.get_metric_history(run_id, "train/critic_loss")
    assert [point.step for point in history] == list(range(0, 2001, 100))
