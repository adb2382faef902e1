"""A local Ray that does not start in time, a cluster that does not answer: one sentence, and nothing left running."""

import logging
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from spin_rl.errors import UserError
from spin_rl.platform.common import ray_session
from spin_rl.platform.common.ray_session import START_LIMIT


def rays_processes(marker: str) -> list[psutil.Process]:
    """Processes of Ray's whose environment holds ``marker``: what a command started, and what that left."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MARKER") == marker and "ray/" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.integration
def test_a_command_whose_ray_does_not_start_in_time_is_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "spin_rl", "data", "make", "cheetah-run", "random", "--size", "1000"]
    environment = {**os.environ, START_LIMIT: "0", "MARKER": str(tmp_path)}
    ended = subprocess.run(
        [*command, "--root", str(tmp_path)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 2, ended.stderr
    (line,) = [line for line in ended.stderr.splitlines() if line]
    assert line.startswith("spin-rl: Ray did not start on this machine (")
    assert f"more than 0 s with {START_LIMIT}" in line
    until = time.monotonic() + 10  # a process that was killed may take a moment to be gone
    while (left := rays_processes(str(tmp_path))) and time.monotonic() < until:
        time.sleep(0.1)
    assert left == []


def test_a_start_that_times_out_is_repeated_and_leaves_no_processes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """With a stand-in for Ray whose start takes a while and then times out, as on a busy machine."""
    (tmp_path / "raylet").symlink_to("/bin/sleep")
    started: list[subprocess.Popen[bytes]] = []

    class Ray:
        """Times out twice, then fails in another way."""

        __file__ = str(tmp_path / "__init__.py")

        @staticmethod
        def is_initialized() -> bool:
            return False

        @staticmethod
        def init(**_: object) -> None:
            started.append(subprocess.Popen([tmp_path / "raylet", "60"]))
            time.sleep(0.5)
            raise Exception(
                "The current node timed out during startup. This could happen because ..."
                if len(started) < 3
                else "No space left on device"
            )

    other = subprocess.Popen(["/bin/sleep", "60"])
    monkeypatch.setattr(ray_session, "_ray", Ray)
    monkeypatch.setattr(ray_session, "_NOTICE", 0.1)
    try:
        with (
            caplog.at_level(logging.WARNING),
            pytest.raises(UserError, match=r"Ray did not start on this machine \(No space left on device\): "),
            ray_session.ray_session(),
        ):
            pass
        assert len(started) == 3
        assert all(process.poll() is not None for process in started)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
    assert "Ray is starting; still waiting after" in caplog.text
    assert caplog.text.count("Ray did not start (The current node timed out during startup); trying again.") == 2
    assert "RAY_gcs_server_port_wait_time_s" not in os.environ


def test_a_cluster_that_does_not_answer_is_one_sentence_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    with pytest.raises(UserError, match=r"the cluster does not answer: .*refused.*; start the cluster"):
        ray_session.ray_session().__enter__()


def test_rays_own_limit_is_raised_before_ray_reads_it() -> None:
    name = ray_session._NODE_LIMIT
    script = f"import os, spin_rl.platform.cluster.client; print(os.environ.get('{name}'))"
    environment = {key: value for key, value in os.environ.items() if key != name}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) > 30
