"""Jobs without a cluster: their ids, a log over broken connections, why they failed, what they upload."""

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from ray._private.runtime_env.packaging import create_package

import spin_rl
from spin_rl.commands.submit import _places
from spin_rl.errors import UserError
from spin_rl.platform.cluster import follow, jobs
from spin_rl.platform.cluster.failures import failure_cause
from spin_rl.platform.cluster.package import EXCLUDES, check_size, runtime_env, uploaded_files

PLACES = {"storage": "/mnt/results", "data": None}


def job(name: str, status: str = "RUNNING", **more: object) -> SimpleNamespace:
    fields = {"message": "", "error_type": None, "driver_exit_code": None, "metadata": {}, **more}
    return SimpleNamespace(submission_id=name, status=status, **fields)


class Cluster:
    """A cluster whose log stream breaks: each connection sends the log from its beginning, then breaks off."""

    def __init__(self, known: list[SimpleNamespace], connections: list[str], end: str = "SUCCEEDED") -> None:
        self.known, self.connections, self._end = known, connections, end

    def list_jobs(self) -> list[SimpleNamespace]:
        return self.known

    def get_job_info(self, name: str) -> SimpleNamespace:
        return job(name, self._end if not self.connections else "RUNNING")

    async def tail_job_logs(self, name: str) -> AsyncIterator[str]:
        log = self.connections.pop(0)
        yield log[:3]
        yield log[3:]
        if self.connections:
            raise RuntimeError("WebSocket connection closed unexpectedly with close code 1006")


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_POLL", 0.01)


def test_an_id_says_what_the_job_is_and_differs_with_its_command_and_places() -> None:
    command = ["sweep", "baselines", "--seed", "0"]
    name = jobs.submission_id(command, PLACES)
    assert name.startswith("spin-rl-sweep-baselines-")
    assert name == jobs.submission_id(list(command), dict(PLACES))
    others = [
        jobs.submission_id([*command[:3], "1"], PLACES),
        jobs.submission_id(command, {**PLACES, "storage": "/mnt/others"}),
        jobs.submission_id(["sweep", "my sweeps/It's.py"], PLACES),
    ]
    assert len({name, *others}) == 4
    assert all(set(other) <= set("abcdefghijklmnopqrstuvwxyz0123456789-") for other in others)


def test_attempts_are_numbered_and_other_jobs_do_not_count() -> None:
    names = ["spin-rl-a-10", "spin-rl-a", "spin-rl-a-2", "spin-rl-ab", "raysubmit_x"]
    found = jobs.attempts(Cluster([job(name) for name in names], []), "spin-rl-a")
    assert [each.submission_id for each in found] == ["spin-rl-a", "spin-rl-a-2", "spin-rl-a-10"]
    assert jobs.next_id("spin-rl-a", []) == "spin-rl-a"
    assert jobs.next_id("spin-rl-a", found) == "spin-rl-a-11"
    assert jobs.next_id("spin-rl-a", found[:1]) == "spin-rl-a-2"


@pytest.mark.usefixtures("_quick")
def test_a_log_over_broken_connections_is_printed_once() -> None:
    printed: list[str] = []
    ended = follow.follow(Cluster([], ["one\ntw", "one\ntwo\nthr", "one\ntwo\nthree\n"]), "name", printed.append)
    assert "".join(printed) == "one\ntwo\nthree\n"
    assert ended.status == "SUCCEEDED"


@pytest.mark.usefixtures("_quick")
def test_a_job_that_the_cluster_has_forgotten_is_none_and_a_silent_cluster_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = Cluster([], ["one\n"])

    def forgotten(name: str) -> None:
        raise RuntimeError(f"Request failed with status code 404: Job {name} does not exist.")

    monkeypatch.setattr(cluster, "get_job_info", forgotten)
    assert follow.follow(cluster, "name", lambda _: None) is None

    def silent(name: str) -> None:
        raise ConnectionError("Connection refused")

    monkeypatch.setattr(cluster, "get_job_info", silent)
    monkeypatch.setattr(cluster, "tail_job_logs", silent)
    monkeypatch.setattr(follow, "_LOST_AFTER", 0.1)
    with pytest.raises(UserError, match="the same command follows it again"):
        follow.follow(cluster, "name", lambda _: None)


def test_why_a_job_failed_is_its_own_sentence_pips_or_its_last_line() -> None:
    failed = job("name", "FAILED", driver_exit_code=2)
    assert (
        failure_cause(failed, "Running\nspin-rl: storage: /x is full; free some.\n")
        == "storage: /x is full; free some."
    )
    assert failure_cause(failed, "Traceback\nValueError: 3\n\n") == "ValueError: 3"
    assert "activate the environment" in failure_cause(failed, "ModuleNotFoundError: No module named 'typer'\n")
    message = (
        "runtime_env setup failed: Failed to set up\nWARNING: Retrying ... NewConnectionError(...)\nERROR: No match"
    )
    registry = job("name", "FAILED", error_type="JobErrorType.RUNTIME_ENV_SETUP_FAILURE", message=message)
    assert "cannot reach the package index" in failure_cause(registry, "")
    assert "PIP_INDEX_URL" in failure_cause(registry, "")
    none = "runtime_env\nERROR: Could not find a version that satisfies the requirement nix (from versions: none)\n"
    unknown = job("name", "FAILED", error_type="JobErrorType.RUNTIME_ENV_SETUP_FAILURE", message=none)
    assert "has no nix, or does not answer" in failure_cause(unknown, "")


def test_places_in_the_command_count_and_may_not_be_relative() -> None:
    command, places = _places(["sweep", "baselines", "--storage", "/a", "--root=s3://b/c", "--seed", "0"], None, None)
    assert command == ["sweep", "baselines", "--seed", "0"]
    assert places == {"storage": "/a", "data": "s3://b/c"}
    for words, said in ((["--storage", "results"], "is relative"), (["--storage=s3://b/c"], "is no folder")):
        with pytest.raises(UserError, match=said):
            _places(words, None, None)


def test_the_upload_leaves_out_what_is_ignored_and_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in {"sweep.py": 10, "data/big": 500, "results/big": 500, "notes/a": 40, ".git/x": 500}.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(size))
    (tmp_path / ".rayignore").write_text("/notes\n")
    ignore = (tmp_path / ".rayignore").stat().st_size
    assert check_size(tmp_path) == 10 + ignore
    monkeypatch.setattr("spin_rl.platform.cluster.package._LIMIT", 9)
    with pytest.raises(UserError, match=r"a \.rayignore file there, .* the largest entries: sweep\.py"):
        check_size(tmp_path)


def test_the_upload_is_what_ray_itself_packs(tmp_path: Path) -> None:
    """Of this checkout, which has links and ignore files, and of a folder with ignore files of its own below."""
    root = Path(spin_rl.__file__).resolve().parents[1]
    folder = tmp_path / "folder"
    for name in (
        "kept.py",
        "sub/kept.txt",
        "sub/left.txt",
        "sub/deep/left.txt",
        "sub/deep/kept.py",
        ".venv/x",
        "b/data/x",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "sub" / ".gitignore").write_text("left.txt\n")
    (folder / "link").symlink_to("sub")
    for number, place in enumerate((root, folder)):
        archive = tmp_path / f"{number}.zip"
        create_package(str(place), archive, include_gitignore=True, excludes=list(EXCLUDES))
        packed = {name for name in zipfile.ZipFile(archive).namelist() if not name.endswith("/")}
        assert packed == {path.relative_to(place).as_posix() for path in uploaded_files(place)}
    assert {"link/kept.txt", "link/deep/kept.py", "b/data/x"} <= packed
    assert not {"sub/left.txt", "link/deep/left.txt", ".venv/x"} & packed


def test_what_a_checkout_uploads_runs_by_itself(tmp_path: Path) -> None:
    root = Path(spin_rl.__file__).resolve().parents[1]
    assert "py_modules" not in runtime_env(root, env={})
    for file in uploaded_files(root):
        copy = tmp_path / file.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    assert not (tmp_path / "platform").exists()
    code = (
        "import spin_rl.platform.doctor.examine as d, spin_rl.cli, platform; print(spin_rl.__file__, platform.__file__)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PATH": ""}, capture_output=True, text=True, check=True
    )
    ours, theirs = answer.stdout.split()
    assert Path(ours) == tmp_path / "spin_rl" / "__init__.py"
    assert Path(theirs).parent == Path(sysconfig.get_path("stdlib"))


def test_from_a_folder_without_the_package_the_installed_one_is_uploaded(tmp_path: Path) -> None:
    assert runtime_env(tmp_path, env={})["py_modules"] == [str(Path(spin_rl.__file__).parent)]
