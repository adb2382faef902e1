"""Runs on this machine what the compose file and the manifests run in containers, with the same settings."""

import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from fsspec import filesystem
from manifests import DOCKER, compose, make_secrets, ray_clusters

pytestmark = pytest.mark.integration

BIN = Path(sys.executable).parent


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(home: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """A container's environment: the image's and the service's, nothing of this process."""
    fixed = {"PATH": f"{BIN}:{DOCKER}:/usr/bin:/bin", "HOME": str(home), "RAY_USAGE_STATS_ENABLED": "0"}
    fixed |= {"RAY_raylet_start_wait_time_s": "120"}  # a busy machine
    return {**fixed, "PYTHONUNBUFFERED": "1", **extra}


class Container:
    """A service of the compose file as processes of this machine: its own command and environment.

    Args:
        name: the service.
        home: working directory, and where the output goes.
        places: what stands for names and paths that only containers have.
        arguments: appended to the command: addresses and sizes that fit a test.
        variables: in the place of the service's own.
    """

    def __init__(
        self,
        name: str,
        home: Path,
        places: Mapping[str, str],
        arguments: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.service, self._places = compose()["services"][name], places
        self.environment = environment(
            home,
            {key: self._here(str(value)) for key, value in self.service["environment"].items()} | dict(variables or {}),
        )
        self.log = home / f"{name}.log"
        self._home = home
        command = [self._here(word) for word in self.service["command"]]
        self.process = self._start(["with-secrets.sh", *command, *arguments])

    def _here(self, text: str) -> str:
        for there, here in self._places.items():
            text = text.replace(there, here)
        return text

    def _start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with self.log.open("wb") as log:
            program = str(shutil.which(command[0], path=self.environment["PATH"]))
            return subprocess.Popen(
                [program, *command[1:]],
                env=self.environment,
                cwd=self._home,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_until_healthy(self, seconds: float = 120) -> None:
        """Until the service's own health check, as compose runs it, passes."""
        kind, *command = [self._here(word) for word in self.service["healthcheck"]["test"]]
        assert kind == "CMD"
        deadline = time.monotonic() + seconds
        while True:
            program = str(shutil.which(command[0], path=self.environment["PATH"]))
            checked = subprocess.run([program, *command[1:]], env=self.environment, capture_output=True, text=True)
            if checked.returncode == 0:
                return
            said = f"{checked.stderr[-2000:]}\n{self.log.read_text()[-4000:]}"
            assert self.process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.3)

    def stop(self) -> None:
        """End the service with everything that it started."""
        try:
            family = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        self.process.terminate()
        _, left = psutil.wait_procs(family, timeout=10)
        for process in left:
            process.kill()
        self.process.wait()


@contextmanager
def running(*args: Any, **kwargs: Any) -> Iterator[Container]:
    container = Container(*args, **kwargs)
    try:
        yield container
    finally:
        container.stop()


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder with a short path, as Ray's sockets need it."""
    folder = Path(tempfile.mkdtemp(prefix="sr", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def get(url: str, **headers: str) -> tuple[int, str]:
    """Status and text of an answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def ray_flags(params: Mapping[str, str]) -> list[str]:
    """rayStartParams as KubeRay puts them on the command line."""
    return [f"--{name}={value}" for name, value in params.items()]


def test_the_ray_cluster_admits_no_client_without_its_token(home: Path) -> None:
    """Head and worker of the compose file as the manifests set them; clients with, without and with a wrong token."""
    secrets = make_secrets(home)
    token = (secrets / "ray_token").read_text()
    port, page, agent = free_port(), free_port(), free_port()
    address = f"127.0.0.1:{port}"
    places = {"/run/secrets": str(secrets), "head:6379": address, "127.0.0.1:6379": address}
    places |= {"127.0.0.1:52365": f"127.0.0.1:{agent}"}
    small = ["--node-ip-address=127.0.0.1", "--object-store-memory=80000000"]
    spec = next(ray_clusters())
    of_head = ray_flags(spec["headGroupSpec"]["rayStartParams"])
    ports = [f"--port={port}", f"--dashboard-port={page}"]
    here = [*of_head, *ports, "--dashboard-host=127.0.0.1", f"--temp-dir={home}/ray", *small]
    of_group = ray_flags(spec["workerGroupSpecs"][0]["rayStartParams"])
    one = ["--num-cpus=1", f"--dashboard-agent-listen-port={agent}", *small]
    with running("head", home, places, here) as head:
        head.wait_until_healthy()
        with running("worker", home, places, [*of_group, *one]) as worker:
            worker.wait_until_healthy()
            count = (
                "import ray; ray.init(address='auto', logging_level='error');"
                "print(ray.cluster_resources()['CPU'], ray.get(ray.remote(lambda: 'ran').remote()))"
            )

            def ask(**variables: str) -> subprocess.CompletedProcess[str]:
                own = environment(home, {"RAY_ADDRESS": address, **variables})
                command = [sys.executable, "-c", count]
                return subprocess.run(command, env=own, cwd=home, capture_output=True, text=True, timeout=100)

            with_token = ask(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(secrets / "ray_token"))
            assert with_token.stdout.split() == ["1.0", "ran"], with_token.stderr
            for refused in (
                ask(RAY_AUTH_MODE="disabled"),
                ask(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64),
            ):
                assert refused.returncode != 0
                assert "AuthenticationError" in refused.stderr
            jobs = f"http://127.0.0.1:{page}/api/jobs/"
            assert get(jobs)[0] == 401
            assert get(jobs, Authorization=f"Bearer {'0' * 64}")[0] == 403
            assert get(jobs, Authorization=f"Bearer {token}")[0] == 200
            seen = [*words_of(head), *words_of(worker)]
            assert len(seen) > 4
            assert not [line for line in seen if token in line]
    logs = [path for path in (*home.glob("ray/**/*.*"), *home.glob("*.log")) if path.is_file()]
    assert len(logs) > 5
    assert not [path for path in logs if token.encode() in path.read_bytes()]


def words_of(container: Container) -> list[str]:
    """The command lines of a container's processes."""
    lines = []
    for process in psutil.Process(container.process.pid).children(recursive=True):
        try:
            lines.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return lines


@pytest.fixture
def s3() -> Iterator[str]:
    """The address of an S3-compatible server."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def test_the_mlflow_server_asks_for_a_password_and_its_own_name(home: Path, s3: str) -> None:
    """MLflow of the compose file, on SQLite in the place of PostgreSQL and on S3: who is admitted, and an artifact."""
    secrets = make_secrets(home)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    places = {
        "/run/secrets": str(secrets),
        "127.0.0.1:5000": f"127.0.0.1:{port}",
        "http://s3:8333": s3,
        "postgresql+psycopg://mlflow@postgres:5432/mlflow": f"sqlite:///{home}/mlflow.db",
        "0.0.0.0": "127.0.0.1",
    }
    variables = {"MLFLOW_PORT": str(port), "MLFLOW_WORKERS": "1"}
    with running("mlflow", home, places, variables=variables) as server:
        server.wait_until_healthy()
        search = f"{url}/api/2.0/mlflow/experiments/search?max_results=1"
        assert get(search)[0] == 401
        assert get(search, Host="elsewhere.example")[0] == 403
        password = (secrets / "mlflow_password").read_text()
        tracked = subprocess.run(
            [str(DOCKER / "with-secrets.sh"), sys.executable, "-c", _TRACK],
            env=environment(
                home,
                {
                    "MLFLOW_TRACKING_URI": url,
                    "MLFLOW_TRACKING_USERNAME": "admin",
                    "MLFLOW_TRACKING_PASSWORD_FILE": str(secrets / "mlflow_password"),
                },
            ),
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert tracked.stdout.split() == ["mlflow-artifacts", "note.txt"], tracked.stderr
        assert not [line for line in words_of(server) if password in line]
    assert password not in server.log.read_text()
    access, secret = re.findall("= (.*)", (secrets / "s3_credentials").read_text())
    store = filesystem("s3", endpoint_url=s3, key=access, secret=secret)
    (file,) = store.glob("mlflow/**/note.txt")
    assert store.cat(file) == b"kept"


_TRACK = """
from mlflow import MlflowClient
client = MlflowClient()
run = client.create_run("0")
client.log_text(run.info.run_id, "kept", "note.txt")
print(run.info.artifact_uri.partition(":")[0], *(file.path for file in client.list_artifacts(run.info.run_id)))
"""


def test_the_entry_point_ends_where_a_secret_is_missing(tmp_path: Path) -> None:
    own = environment(tmp_path, {"PGPASSWORD_FILE": str(tmp_path / "none")})
    ended = subprocess.run([DOCKER / "with-secrets.sh", "echo", "started"], env=own, capture_output=True, text=True)
    assert ended.returncode != 0
    assert (ended.stdout, "none" in ended.stderr) == ("", True)
    (tmp_path / "none").write_text("x y\n")
    own["PGPASSWORD_FILE"] = str(tmp_path / "none")
    shown = subprocess.run(
        [DOCKER / "with-secrets.sh", "printenv", "PGPASSWORD"], env=own, capture_output=True, text=True
    )
    assert shown.stdout == "x y\n"
