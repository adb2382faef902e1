"""The house itself: what the wheel holds, that nothing hides Python's platform module, and the pins."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("algorithms", "envs", "platform", "sweeps")


def _project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _files(folder: Path) -> set[str]:
    """Every file below ``folder`` but caches, relative to it."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in paths if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the files in a wheel that is built from a copy of the tree."""
    tree = tmp_path_factory.mktemp("tree")
    for folder in ("spin_rl", *PARTS):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, tree / file)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tree / "dist"), str(tree)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = (tree / "dist").glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_file_of_the_four_parts(wheel: set[str]) -> None:
    expected = {f"spin_rl/{part}/{name}" for part in PARTS for name in _files(ROOT / part)}
    expected |= {f"spin_rl/{name}" for name in _files(ROOT / "spin_rl")}
    assert {name for name in wheel if ".dist-info/" not in name} == expected
    assert "spin_rl/envs/catalogue.py" in wheel
    assert "spin_rl/platform/__init__.py" not in wheel


def test_the_wheel_carries_the_licence_and_the_command(wheel: set[str]) -> None:
    names = {name.partition(".dist-info/")[2] for name in wheel if ".dist-info/" in name}
    assert {"licenses/LICENSE", "entry_points.txt"} <= names


@pytest.mark.parametrize("path", ["", str(ROOT)])
def test_platform_is_the_standard_librarys_at_the_root(path: str) -> None:
    """Ray puts the working directory on the path of every worker: from there too ``platform`` is Python's own."""
    code = "import platform, spin_rl.platform.doctor.examine, spin_rl.envs; print(platform.__file__)"
    environment = {**os.environ, "PYTHONPATH": path}
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert Path(printed.strip()).parent == Path(sysconfig.get_path("stdlib"))


def _pins() -> dict[str, str]:
    lines = [line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    matches = [re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.!+_-]+)", line) for line in lines if line]
    assert all(matches), "a line of requirements.txt is not name==version"
    return {canonicalize_name(match[1]): match[2] for match in matches if match}


def test_the_pins_satisfy_the_ranges() -> None:
    pins = _pins()
    extras = _project()["optional-dependencies"]
    requirements = [Requirement(line) for line in [*_project()["dependencies"], *extras["dev"]]]
    loose = [
        str(requirement)
        for requirement in requirements
        if not requirement.specifier.contains(pins.get(canonicalize_name(requirement.name), "0"), prereleases=True)
    ]
    assert loose == [], "run `make pins`"


def test_the_pins_leave_out_what_only_some_builds_of_torch_need() -> None:
    pins = _pins()
    assert [name for name in pins if re.match(r"nvidia|triton|cuda", name)] == []
    assert "+" not in pins["torch"]


def test_what_is_installed_is_what_is_pinned() -> None:
    different = {name: pinned for name, pinned in _pins().items() if version(name).partition("+")[0] != pinned}
    assert different == {}, "run `make setup`"
