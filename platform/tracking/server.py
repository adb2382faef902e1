"""MLflow's own server on the store of this machine, reachable from this machine only."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path

from rich.console import Console

from spin_rl.errors import UserError
from spin_rl.platform.tracking.store import VIEW, artifact_folder, default_tracking_uri, has_view, sqlite_file

_HOST = "127.0.0.1"
_START_SECONDS = 120.0


def free_port(wanted: int = 0) -> int:
    """``wanted`` if it is free, else any free port on loopback."""
    for port in (wanted, 0):
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise UserError("This machine has no free port; end something that listens on one.")


def server_command(tracking_uri: str, port: int) -> list[str]:
    """The command that serves a store on loopback."""
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", tracking_uri]
    command += ["--host", _HOST, "--port", str(port), "--workers", "1"]
    if artifacts := artifact_folder(tracking_uri):
        command += ["--default-artifact-root", artifacts]
    return command


def start_server(tracking_uri: str, port: int, log: Path | None = None) -> subprocess.Popen[bytes]:
    """Start the server and wait until it answers.

    Raises:
        UserError: it ended, or did not answer within two minutes.
    """
    output = log.open("wb") if log else subprocess.DEVNULL
    server = subprocess.Popen(
        server_command(tracking_uri, port),
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # Ctrl-C is for us; we end it
        # without the eight processes that MLflow keeps ready for work on traces
        env={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", **os.environ},
    )
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"http://{_HOST}:{port}/health", timeout=2):
                return server
        except OSError:
            time.sleep(0.2)
    stop_server(server)
    raise UserError(f"The MLflow server on {tracking_uri} did not start; `{' '.join(server.args)}` says why.")  # type: ignore[arg-type]


def stop_server(server: subprocess.Popen[bytes]) -> None:
    """End the server and the workers that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(server.pid, number)
        except ProcessLookupError:
            break
        try:
            server.wait(10)
            break
        except subprocess.TimeoutExpired:
            continue
    server.wait()


def _runs_page(url: str) -> str:
    """The address that opens on the newest experiment's runs instead of on MLflow's page for chats."""
    query = json.dumps({"max_results": 1, "order_by": ["last_update_time DESC"]}).encode()
    request = urllib.request.Request(f"{url}/api/2.0/mlflow/experiments/search", query)
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            experiment = json.load(answer)["experiments"][0]
    except (OSError, ValueError, LookupError):
        return url
    page = f"{url}/#/experiments/{experiment['experiment_id']}/runs?workflowType=machine_learning"
    return f"{page}&viewStateShareKey={VIEW}" if has_view(experiment.get("tags", [])) else page


def serve(storage: str | None, tracking_uri: str | None, port: int, console: Console) -> None:
    """Serve the store until Ctrl-C; where it is a server already, say its address.

    Raises:
        UserError: there is no store yet.
    """
    uri = tracking_uri or default_tracking_uri(storage)
    if uri.startswith(("http://", "https://")):
        console.print(f"MLflow is served at {uri}", soft_wrap=True)
        return
    file = sqlite_file(uri)
    if file is not None and not file.is_file():
        raise UserError(f"There is no MLflow store at {file} yet; run a sweep, or name another --storage.")
    chosen = free_port(port)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the server ends with us
    with console.status("starting the MLflow page ..."):
        server = start_server(uri, chosen)
    console.print(f"The runs: {_runs_page(f'http://{_HOST}:{chosen}')}  (Ctrl-C ends it)", soft_wrap=True)
    try:
        server.wait()
    except KeyboardInterrupt:
        console.print("ended")
    finally:
        stop_server(server)
