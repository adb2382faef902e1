"""Jobs on a cluster of three real nodes that lack the package: sweeps that survive failures, and what is refused."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from network import Network, network
from ray_cluster import RayCluster, bare_python, can_mount, spin_rl

from spin_rl.platform.common.provenance import code
from spin_rl.platform.results.files import read_sweep
from tests.trial_numbers import trial_numbers

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1500)]

SWEEP = "sweep baselines --tiny --updates 8 --evaluations 8"
"""Four trials that report often enough to be killed in between."""

DATA = "s3://shared/data"

PATIENCE = 500  # seconds, far more than it takes

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """What all nodes share; its path is short because sockets lie below it."""
    path = Path(tempfile.mkdtemp(prefix="sr", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def undisturbed(folder: Path) -> Iterator[subprocess.Popen]:
    """The same sweep on this machine alone, at work while the cluster starts."""
    command = [sys.executable, "-m", "spin_rl", *SWEEP.split(), "--root", str(folder / "data")]
    with (folder / "undisturbed.log").open("wb") as log:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        command += ["--storage", str(folder / "undisturbed")]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    yield process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def hosts() -> Iterator[Network | None]:
    """A network of the nodes' own, where this machine lets us make one."""
    with network() as made:
        yield made


@pytest.fixture(scope="module")
def s3(hosts: Network | None) -> Iterator[dict[str, str]]:
    """Settings for an S3-compatible server that has a bucket `shared`."""
    from fsspec import filesystem
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address=hosts.address if hosts else "127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    user, password = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"
    filesystem("s3", key=user, secret=password, endpoint_url=f"http://{host}:{port}").mkdir("shared")
    yield {
        user: user,
        password: password,
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server.stop()


@pytest.fixture(scope="module")
def cluster(
    folder: Path, undisturbed: subprocess.Popen, s3: dict[str, str], hosts: Network | None
) -> Iterator[RayCluster]:
    places = {"SPIN_RL_STORAGE": str(folder / "plain"), "SPIN_RL_DATA": DATA}
    running = RayCluster(folder, bare_python(folder / "python"), s3, hosts, places)
    try:
        running.start("w1", "w2")
        yield running
    finally:
        running.stop()


def wait_for(what: Callable[[], bool], process: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while not what():
        assert process.poll() is None, log.read_text()[-4000:]
        assert time.monotonic() < until, log.read_text()[-4000:]
        time.sleep(0.02)


def numbers(storage: Path) -> dict[tuple[object, ...], list[dict[str, float]]]:
    """What each trial reported, update by update, without what depends on the clock and the machine."""
    (folder,) = [path.parent for path in storage.glob("*/sweep.json")]
    results = read_sweep(folder)
    assert (results.trials["state"] == "finished").all()
    return trial_numbers(results, "algorithm", "objective")


def test_a_sweep_outlives_a_worker_a_cut_cable_and_the_head(
    cluster: RayCluster, folder: Path, undisturbed: subprocess.Popen
) -> None:
    storage, log = folder / "results", folder / "submit.log"
    options = ["submit", "--storage", str(storage), "--data", DATA]

    def states() -> dict[Path, str]:
        return {path.parent: json.loads(path.read_text())["state"] for path in storage.glob("*/trials/*/trial.json")}

    def reports() -> int:
        return sum(len(path.read_text().splitlines()) for path in storage.glob("*/trials/*/metrics.jsonl"))

    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "spin_rl", *options, *SWEEP.split()],
            env=cluster.environment,
            stdout=file,
            stderr=file,
        )
    wait_for(lambda: reports() > 3, process, log)
    cluster.kill("w1")
    cluster.add("w3")
    killed_at = reports()
    cluster.wait("w3")
    wait_for(lambda: reports() > killed_at + 1, process, log)
    cluster.cut("w2")
    cut_at = reports()
    wait_for(lambda: reports() > cut_at + 3 and "finished" in states().values(), process, log)
    finished = [path for path, state in states().items() if state == "finished"]
    cluster.stop()
    assert len(finished) < 4
    kept = {path: (path / "metrics.jsonl").read_text() for path in finished}
    cluster.start("w1", "w2")
    assert process.wait(PATIENCE) == 0, log.read_text()[-4000:]
    log_text = log.read_text()
    assert log_text.count("has lost the job; submitting it again") == 1, log_text
    assert "can be written by all 3 nodes" in log_text
    assert undisturbed.wait(PATIENCE) == 0, (folder / "undisturbed.log").read_text()[-4000:]
    assert numbers(storage) == numbers(folder / "undisturbed")
    (record,) = [json.loads(path.read_text()) for path in storage.glob("*/sweep.json")]
    assert record["provenance"]["code"] == code()  # sent along: the nodes have no repository
    assert record["command"].startswith("spin-rl sweep baselines")
    # A trial whose end Tune had not recorded yet reports it again, and does nothing else.
    for path, text in kept.items():
        assert (path / "metrics.jsonl").read_text() in (text, text + text.splitlines(keepends=True)[-1])

    # Every node that trained made its own copy of the dataset, and the same one.
    copies = [path.name for path in folder.glob("w*/cache/arrow/*") if path.is_dir()]
    assert len(copies) >= 2
    assert len(set(copies)) == 1

    again = spin_rl(cluster, *options, *SWEEP.split())
    assert again.returncode == 0
    assert "has succeeded already" in again.stdout
    assert "Submitted" not in again.stdout


def test_a_job_is_stopped_by_its_command_and_submitted_again_under_a_number(cluster: RayCluster, folder: Path) -> None:
    storage = folder / "stopped"
    options = ["--storage", str(storage), "--data", DATA]
    sweep = ["sweep", "baselines", "--tiny", "--updates", "2000", "--evaluations", "2000"]
    started = spin_rl(cluster, "submit", "--detach", *options, *sweep)
    assert started.returncode == 0, started.stderr
    until = time.monotonic() + 300
    while not list(storage.glob("*/trials/*/metrics.jsonl")) and time.monotonic() < until:
        time.sleep(0.1)
    stopped = spin_rl(cluster, "submit", "--stop", *options, *sweep)
    assert stopped.returncode == 0, stopped.stderr
    states = [json.loads(path.read_text())["state"] for path in storage.glob("*/trials/*/trial.json")]
    assert states
    assert "running" not in states  # the job had the time to record its end
    nothing = spin_rl(cluster, "submit", "--stop")
    assert nothing.returncode == 2
    assert "nothing to stop" in nothing.stderr
    again = spin_rl(cluster, "submit", "--detach", *options, *sweep)
    assert "-2." in again.stdout
    assert spin_rl(cluster, "submit", "--stop").returncode == 0  # the only one that runs


def test_what_is_wrong_is_one_sentence_from_submit_and_doctor_alike(cluster: RayCluster, folder: Path) -> None:
    wrong = spin_rl(cluster, "submit", "--storage", str(folder), "data", "list", RAY_AUTH_TOKEN="0123456789abcdef")
    assert wrong.returncode == 2
    assert "refuses our token; set RAY_AUTH_TOKEN" in wrong.stderr
    assert len(wrong.stderr.splitlines()) == 1
    assert cluster.token not in wrong.stdout + wrong.stderr

    # One node is not what it should be: it promises a GPU and has a folder of its own where another is shared.
    apart = folder / "apart"
    apart.mkdir()
    cluster.add("w4", "--num-gpus", "1", apart=apart if can_mount() else None)
    cluster.wait("w4")
    refused = spin_rl(cluster, "submit", "--storage", "/proc/results", "--data", str(folder), "data", "list")
    assert refused.returncode == 2
    assert "storage: /proc/results cannot be written" in refused.stderr
    assert "--storage" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    examined = spin_rl(cluster, "doctor", "--address", cluster.address, "--storage", str(apart), "--data", DATA)
    assert f"{DATA} can be written by all 4 nodes" in examined.stdout
    if can_mount():
        assert examined.returncode == 2, examined.stdout
        assert f"{apart} is not shared" in examined.stdout
    if not shutil.which("nvidia-smi"):
        assert examined.returncode == 2, examined.stdout
        assert "promises 1 GPUs, torch can use 0 there" in examined.stdout
    cluster.kill("w4")


def test_a_package_index_that_no_node_reaches_is_named(cluster: RayCluster, folder: Path) -> None:
    refused = spin_rl(cluster, "submit", "--pip", "cowsay", "--storage", str(folder), "--data", DATA, "data", "list")
    assert refused.returncode != 0
    assert "cannot reach the package index" in refused.stderr
    assert "PIP_INDEX_URL" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_the_plain_command_of_readme_runs_as_it_stands(cluster: RayCluster, folder: Path) -> None:
    """The package travels in the job's working directory; the places are the nodes' own settings."""
    pages = (ROOT / "README.md", ROOT / "docs" / "cluster.md")
    blocks = {part for page in pages for part in page.read_text().split("```") if "ray job submit" in part}
    (command,) = (block.removeprefix("sh\n") for block in blocks)  # both pages have the same one
    assert "-- python -m spin_rl sweep baselines" in command
    answer = subprocess.run(
        ["bash", "-euc", command],
        cwd=ROOT,
        env={**cluster.environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    (sweep,) = [path.parent for path in (folder / "plain").glob("*/sweep.json")]
    results = read_sweep(sweep)
    assert list(results.trials["state"]) == ["finished"] * 4
    returns = results.metrics.groupby("trial_id")["eval/return_mean"].last()
    assert set(returns.dropna().index) == set(results.trials.index)
