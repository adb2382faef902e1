"""A Ray cluster of real nodes on this machine, each started by `ray start` with a Python that lacks this package."""

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
from network import Network

STORE = 100_000_000  # bytes of each node's object store


def free_ports(count: int) -> list[int]:
    """Ports that are free now."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [int(listener.getsockname()[1]) for listener in listeners]


def bare_python(folder: Path) -> Path:
    """The bin folder of a Python that has every dependency of this package, but not the package itself.

    Only the dependencies' folder is put on its path: the .pth file there, which makes an editable install importable,
    only counts in a site-packages folder of the Python itself.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    command = [folder / "bin/python", "-c", "import ray, spin_rl"]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert "No module named 'spin_rl'" in answer.stderr, answer
    return folder / "bin"


class Node:
    """One `ray start`."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], log: Path) -> None:
        self._command, self._environment, self._log = command, environment, log
        self._begin()

    def _begin(self) -> None:
        with self._log.open("wb") as file:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdout=file,
                stderr=file,
                cwd=self._log.parent,
                start_new_session=True,
            )

    def wait(self, tries: int = 3) -> None:
        """Until it runs; Ray itself gives up after 30 seconds, which a busy machine exceeds."""
        while "block forever" not in self._log.read_text():
            if self._process.poll() is not None:
                tries -= 1
                assert tries > 0, self._log.read_text()[-3000:]
                assert "timed out during startup" in self._log.read_text(), self._log.read_text()[-3000:]
                self._begin()
            time.sleep(0.1)

    def kill(self) -> None:
        """kill -9 of everything on it at once."""
        with contextlib.suppress(psutil.NoSuchProcess):
            there = psutil.Process(self._process.pid)
            for process in [there, *there.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self._process.wait(30)


class RayCluster:
    """A head without CPUs and workers with one each, token authentication on.

    Args:
        folder: for its files, with a short path: sockets lie in it.
        bin_folder: of the Python that its nodes run.
        settings: more environment variables of the nodes, and of a user's commands beside them.
        network: gives every node a host of its own, on Ray's usual ports; without one all are on loopback.
        of_nodes: environment variables of the nodes alone.
    """

    def __init__(
        self,
        folder: Path,
        bin_folder: Path,
        settings: Mapping[str, str],
        network: Network | None = None,
        of_nodes: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self._settings, self._of_nodes = settings, of_nodes or {}
        self.token = secrets.token_hex(16)
        self._bin = bin_folder
        self._network = network
        self._ports = free_ports(3) if network is None else [6379, 8265, 10001]
        self._agents = free_ports(9) if network is None else []
        self._nodes: dict[str, Node] = {}
        self._head, _ = self._host("head")
        self.address = f"http://{self._head}:{self._ports[1]}"

    def start(self, *workers: str) -> None:
        """The head, then workers by name."""
        gcs, dashboard, client = self._ports
        ports = f"--port {gcs} --dashboard-port {dashboard} --ray-client-server-port {client}"
        options = f"--head --num-cpus 0 --include-dashboard true --dashboard-host {self._head} {ports}"
        self._nodes["head"] = self._start("head", options.split())
        self._nodes["head"].wait()
        for name in workers:
            self.add(name)
            self._nodes[name].wait()

    def add(self, name: str, *options: str, apart: Path | None = None) -> None:
        """One more worker; does not wait for it. ``apart`` is a folder that it is to have for itself."""
        address = ["--address", f"{self._head}:{self._ports[0]}", "--num-cpus", "1"]
        mount = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {apart} && exec "$@"', "sh"] if apart else []
        self._nodes[name] = self._start(name, [*address, *options], mount)

    def wait(self, name: str) -> None:
        """Until a worker that was added runs."""
        self._nodes[name].wait()

    def kill(self, name: str) -> None:
        """kill -9 of a node with all that runs on it."""
        self._nodes.pop(name).kill()

    def cut(self, name: str) -> None:
        """Leave a node alone with itself, as a broken switch does; without a network of its own it is killed."""
        if self._network is None:
            self.kill(name)
        else:
            self._network.cut(name)

    def stop(self) -> None:
        """kill -9 of every node."""
        for name in list(self._nodes):
            self.kill(name)

    @property
    def environment(self) -> dict[str, str]:
        """Of a user's command beside the cluster."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
            **self._settings,
            "RAY_AUTH_TOKEN": self.token,
            "RAY_API_SERVER_ADDRESS": self.address,
        }

    def _host(self, name: str) -> tuple[str, list[str]]:
        """A node's address, and what runs a command there."""
        return self._network.add(name) if self._network else ("127.0.0.1", [])

    def _start(self, name: str, options: Sequence[str], prefix: Sequence[str] = ()) -> Node:
        # Ports and files of their own: Ray tries only one port for the agent, and nodes that share a folder delete
        # each other's working directories.
        address, there = self._host(name)
        ports = f"--min-worker-port 0 --max-worker-port 0 --node-ip-address {address}"
        if self._network is None:
            ports += f" --dashboard-agent-listen-port {self._agents.pop()}"
        common = f"--block --disable-usage-stats --object-store-memory {STORE} --temp-dir {self.folder}/{name} {ports}"
        environment = {
            **{key: value for key, value in self.environment.items() if key != "RAY_API_SERVER_ADDRESS"},
            **self._of_nodes,
            "RAY_AUTH_MODE": "token",
            "PATH": f"{self._bin}:{os.environ['PATH']}",
            "MUJOCO_GL": "disable",
            "SPIN_RL_CACHE": f"{self.folder}/{name}/cache",
            "PIP_INDEX_URL": "http://127.0.0.1:9/simple",  # nothing listens there
            "PIP_RETRIES": "1",
            # A killed node is missed within seconds.
            "RAY_health_check_period_ms": "1000",
            "RAY_health_check_failure_threshold": "5",
        }
        python = str(self._bin / "python")
        command = [*there, *prefix, python, "-m", "ray.scripts.scripts", "start", *options, *common.split()]
        return Node(command, environment, self.folder / f"{name}.log")


def can_mount() -> bool:
    """Whether a process here may have mounts of its own."""
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


def spin_rl(cluster: RayCluster, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """The command as a user beside the cluster calls it."""
    return subprocess.run(
        [sys.executable, "-m", "spin_rl", *arguments],
        env={**cluster.environment, **environment},
        capture_output=True,
        text=True,
        timeout=500,
    )
