"""What `spin-rl ui` adds to `mlflow server`: the store of these results, a free port, and a useful first page.

`mlflow server` by itself takes the store from the current folder, keeps eight more processes for work on traces, stops
with an error where its port is taken, and opens on a page for traces. So it is run here with the store, the artifact
folder and a port named, and its address is printed as that of the newest experiment's runs once it answers.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing, suppress

from rich.console import Console

from spin_rl.errors import UserError
from spin_rl.platform.tracking.store import VIEW, artifact_folder, default_tracking_uri, has_view, sqlite_file

_HOST = "127.0.0.1"
_START_SECONDS = 120.0
_STOP_SECONDS = 10.0


def free_port(wanted: int = 0) -> int:
    """``wanted`` if it is free, else any free port on loopback."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, wanted))
        except OSError:
            probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def start_server(tracking_uri: str, port: int) -> subprocess.Popen[bytes]:
    """Start `mlflow server` on loopback and wait until it answers.

    Raises:
        UserError: it stopped, or did not answer within two minutes.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", tracking_uri]
    command += ["--host", _HOST, "--port", str(port), "--workers", "1"]
    if artifacts := artifact_folder(tracking_uri):
        command += ["--default-artifact-root", artifacts]
    server = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # its workers are stopped with it, and Ctrl-C reaches this process alone
        env={"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", **os.environ},
    )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and server.poll() is None:
            with suppress(OSError), urllib.request.urlopen(f"http://{_HOST}:{port}/health", timeout=2):
                return server
            time.sleep(0.2)
    except BaseException:  # Ctrl-C while it starts
        stop_server(server)
        raise
    stop_server(server)
    raise UserError(f"The MLflow server on {tracking_uri} did not start; run `{' '.join(command)}` to see why.")


def stop_server(server: subprocess.Popen[bytes]) -> None:
    """Stop the server and the workers that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with suppress(subprocess.TimeoutExpired):
            server.wait(_STOP_SECONDS)
            return


def serve(storage: str | None, tracking_uri: str | None, port: int, console: Console) -> None:
    """Serve the store until Ctrl-C; where it is a server already, print its address.

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
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the server is stopped on the way out
    chosen = free_port(port)
    with console.status("starting MLflow's page ..."):
        server = start_server(uri, chosen)
    try:
        page = _runs_page(f"http://{_HOST}:{chosen}")
        console.print(f"The runs: {page}  (Ctrl-C stops the server)", soft_wrap=True)
        server.wait()
    except KeyboardInterrupt:
        console.print("stopped")
    finally:
        stop_server(server)


def _runs_page(url: str) -> str:
    """The address of the newest experiment's runs; plain HTTP, as importing MLflow's client takes seconds."""
    query = json.dumps({"max_results": 1, "order_by": ["last_update_time DESC"]}).encode()
    request = urllib.request.Request(
        f"{url}/api/2.0/mlflow/experiments/search", query, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            experiment = json.load(answer)["experiments"][0]
    except (OSError, ValueError, LookupError):
        return url
    page = f"{url}/#/experiments/{experiment['experiment_id']}/runs?workflowType=machine_learning"
    return f"{page}&viewStateShareKey={VIEW}" if has_view(experiment.get("tags", [])) else page
