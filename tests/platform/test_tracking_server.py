"""The mirror against real servers that die, refuse and recover, and against other mirrors on the same store."""

import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from spin_rl.platform.common.json_files import read_json, write_json
from spin_rl.platform.results.files import MetricsFile, start_sweep
from spin_rl.platform.tracking.callback import MirrorThread
from spin_rl.platform.tracking.mirror import Mirror
from spin_rl.platform.tracking.server import free_port, start_server, stop_server
from tests.platform.sweep_fixture import params, write_trial

EXPERIMENT = "tests"


def runs(uri: str) -> dict[str, Any]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id], max_results=1000)}


def steps(uri: str, run: Any, name: str = "train/critic_loss") -> list[int]:
    return [point.step for point in MlflowClient(uri).get_metric_history(run.info.run_id, name)]


NAME = "spin seed {} cheetah-run-3 medium-expert iql"


@pytest.mark.integration
def test_a_server_that_is_killed_gets_every_value_later_in_order_and_once(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    start_sweep(folder, name="s")
    write_trial(folder, "t0", params("spin", 0), state="running")
    file = MetricsFile(folder / "trials" / "t0" / "metrics.jsonl")
    store, port = f"sqlite:///{tmp_path}/mlflow.db", free_port()
    server = start_server(store, port)
    thread = MirrorThread(Mirror(folder, f"http://127.0.0.1:{port}", EXPERIMENT))
    thread.start()
    try:
        for updates in range(1100, 4001, 100):
            file.append({"updates": updates, "timestamp": 1e9 + updates, "train/critic_loss": 1.0 * updates})
            thread.signal("t0")
            if updates == 2000:
                wait_until(lambda: "run_id" in note(folder))
                os.killpg(server.pid, signal.SIGKILL)  # with values on the way
                server.wait()
        assert not thread.finish(1.0)  # the server is down, and the wait is limited
        write_json(folder / "trials" / "t0" / "trial.json", {**trial(folder), "state": "failed", "error": "größer"})
        server = start_server(store, port)
        assert thread.finish(60.0)
    finally:
        stop_server(server)
    told = runs(store)
    assert set(told) == {"s", NAME.format(0)}
    assert steps(store, told[NAME.format(0)]) == list(range(0, 4001, 100))
    assert (told[NAME.format(0)].info.status, told[NAME.format(0)].data.tags["spin_rl.error"]) == ("FAILED", "größer")


def note(folder: Path) -> dict[str, Any]:
    path = folder / "trials" / "t0" / "mlflow.json"
    return read_json(path) if path.is_file() else {}


def trial(folder: Path) -> dict[str, Any]:
    return read_json(folder / "trials" / "t0" / "trial.json")


def wait_until(condition: Any, seconds: float = 60.0) -> None:
    pause = threading.Event()
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        pause.wait(0.05)
    raise AssertionError("The condition was not met in time.")


@pytest.mark.integration
def test_sweeps_that_start_at_once_on_a_new_store_do_not_lock_each_other_out(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    code = (
        "import sys; from pathlib import Path; from spin_rl.platform.tracking.mirror import Mirror\n"
        "mirror = Mirror(Path(sys.argv[1]), sys.argv[2], 'tests')\n"
        "for trial in range(8): mirror.sync({f't{trial}'})"
    )
    for name in "abc":
        start_sweep(tmp_path / name, name=name)
        for seed in range(8):
            write_trial(tmp_path / name, f"t{seed}", params("spin", seed, sweep=name))
    mirrors = [subprocess.Popen([sys.executable, "-c", code, tmp_path / name, uri]) for name in "abc"]
    assert [mirror.wait(120) for mirror in mirrors] == [0, 0, 0]
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    told = client.search_runs([experiment.experiment_id], max_results=1000)
    assert len(told) == 3 * (1 + 8)
    assert all(steps(uri, run) == list(range(0, 1001, 100)) for run in told if "seed" in run.data.params)


@pytest.mark.integration
def test_a_lost_run_is_made_again_and_a_deleted_one_holds_nobody_up(tmp_path: Path) -> None:
    uri, folder = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "sweep"
    start_sweep(folder, name="s")
    for seed in range(3):
        write_trial(folder, f"t{seed}", params("spin", seed))
    mirror = Mirror(folder, uri, EXPERIMENT)
    mirror.sync()
    lost, deleted, other = (NAME.format(seed) for seed in range(3))
    path = folder / "trials" / "t0" / "mlflow.json"
    write_json(path, {**read_json(path), "run_id": "0" * 32})  # a run that does not exist
    MlflowClient(uri).delete_run(runs(uri)[deleted].info.run_id)
    for seed in range(3):
        line = {"updates": 1100, "timestamp": 2e9, "train/critic_loss": 0.5}
        MetricsFile(folder / "trials" / f"t{seed}" / "metrics.jsonl").append(line)
    mirror.sync()
    assert set(runs(uri)) == {"s", lost, other}
    for trial_id in ("t0", "t2"):  # by id: the run that t0 forgot has the same name and start as the new one
        run = MlflowClient(uri).get_run(read_json(folder / "trials" / trial_id / "mlflow.json")["run_id"])
        assert steps(uri, run) == list(range(0, 1101, 100))


class Refuses(BaseHTTPRequestHandler):
    """A server that wants a name and a password."""

    def do_GET(self) -> None:
        body = b'{"error_code": "PERMISSION_DENIED", "message": "Permission denied"}'
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


def test_a_server_that_refuses_loses_nothing_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start_sweep(tmp_path / "sweep", name="s")
    server = HTTPServer(("127.0.0.1", 0), Refuses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        mirror = Mirror(tmp_path / "sweep", f"http://127.0.0.1:{server.server_port}", EXPERIMENT)
        with pytest.raises(MlflowException, match="Permission denied"):
            mirror.sync()
        thread = MirrorThread(mirror)
        thread.start()
        assert not thread.finish(1.5)
    finally:
        server.shutdown()
    assert "kept and sent later" in caplog.text
    assert not (tmp_path / "sweep" / "mlflow.json").exists()
