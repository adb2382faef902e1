"""The house itself: what is installed from it and how, what the tools see of it, and the pins."""

import importlib
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from collections import Counter
from importlib.metadata import version
from pathlib import Path

import pytest
from mypy.modulefinder import FindModuleCache, SearchPaths
from mypy.options import Options
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("algorithms", "envs", "platform", "sweeps")


def _project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command that must succeed, away from this checkout; returns its output."""
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "GIT_DIR", "GIT_WORK_TREE")}
    own |= {"PYTHONDONTWRITEBYTECODE": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environment}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _package_files() -> dict[str, bytes]:
    """Every file of the package but caches, by its name in an installation."""
    found = {}
    for folder, name in ((ROOT / "spin_rl", "spin_rl"), *((ROOT / part, f"spin_rl/{part}") for part in PARTS)):
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                found[f"{name}/{path.relative_to(folder).as_posix()}"] = path.read_bytes()
    return found


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository whose one commit is this working tree."""
    folder = tmp_path_factory.mktemp("repository") / "spin-rl"
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    _run("git", "init", "--quiet", folder, cwd=folder.parent)
    _run("git", f"--git-dir={folder}/.git", f"--work-tree={ROOT}", "add", "--all", cwd=ROOT)
    _run("git", *identity, "commit", "--quiet", "--message", "The working tree", cwd=folder)
    _run("git", "checkout", "--quiet", "--force", "HEAD", cwd=folder)
    return folder


@pytest.fixture(scope="module")
def archive(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree that ``git archive | tar x`` gives."""
    folder = tmp_path_factory.mktemp("archive")
    _run("git", "archive", "--output", folder / "tree.tar", "HEAD", cwd=repository)
    _run("tar", "--extract", "--file", folder / "tree.tar", cwd=folder)
    (folder / "tree.tar").unlink()
    return folder


@pytest.fixture(scope="module")
def distributions(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, archive, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the dependencies, but neither the package nor pip."""
    folder = tmp_path_factory.mktemp("python")
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))  # .pth files in there do not count here
    return folder / "bin" / "python"


def _install(python: Path, *what: str | Path) -> None:
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile", "--no-deps")
    _run(*pip, "--no-build-isolation", *what, cwd=python.parent)


def _wheel_files(distributions: Path) -> dict[str, bytes]:
    (path,) = distributions.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist()}


def test_the_sdist_holds_every_file_of_the_package(distributions: Path) -> None:
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as sdist:
        names = {member.name.partition("/")[2] for member in sdist.getmembers() if not member.isdir()}
    assert not {*_package_files(), "pyproject.toml", "README.md", "LICENSE"} - names


def test_the_wheel_of_the_sdist_holds_every_file_of_the_package_and_no_other(distributions: Path) -> None:
    wheel = _wheel_files(distributions)
    assert {name: content for name, content in wheel.items() if ".dist-info/" not in name} == _package_files()
    assert "spin_rl/platform/__init__.py" not in wheel
    names = {name.partition(".dist-info/")[2] for name in wheel if ".dist-info/" in name}
    assert {"licenses/LICENSE", "entry_points.txt"} <= names


@pytest.mark.parametrize("editable", [True, False], ids=["editable", "git"])
def test_the_package_can_be_installed(
    editable: bool, repository: Path, python: Path, distributions: Path, tmp_path: Path
) -> None:
    """Editable from a checkout, and from a git address; the latter equals the wheel that was built from the sdist."""
    if editable:
        _install(python, "--editable", repository)
        home = repository
    else:
        _install(python, "--force-reinstall", f"git+file://{repository}")
        (home,) = python.parent.parent.glob("lib/python*/site-packages")
        installed = {
            path.relative_to(home).as_posix(): path.read_bytes()
            for path in (home / "spin_rl").rglob("*")
            if path.is_file()
        }
        assert installed == {
            name: content for name, content in _wheel_files(distributions).items() if ".dist-info/" not in name
        }
    code = "import platform, spin_rl, spin_rl.platform.doctor.examine as e; print(platform.__file__, e.__file__)"
    theirs, ours = _run(python, "-c", code, cwd=tmp_path).split()
    assert Path(ours) == home / "spin_rl/platform/doctor/examine.py"
    assert Path(theirs).parent == Path(sysconfig.get_path("stdlib"))
    assert "quickstart" in _run(python.with_name("spin-rl"), "--help", cwd=tmp_path)


def test_an_archive_of_a_commit_runs_in_place(archive: Path, python: Path) -> None:
    assert "quickstart" in _run(python, "-m", "spin_rl", "--help", cwd=archive)
    code = "import importlib.util as u; print(u.find_spec('spin_rl.platform.common.leases').origin)"
    assert Path(_run(python, "-c", code, cwd=archive).strip()) == archive / "spin_rl/platform/common/leases.py"


@pytest.mark.parametrize("path", ["", str(ROOT)])
def test_platform_is_the_standard_librarys_at_the_root(path: str) -> None:
    """Ray puts the working directory on the path of every worker: from there too ``platform`` is Python's own."""
    code = "import platform, spin_rl.platform.doctor.examine, spin_rl.envs; print(platform.__file__)"
    environment = {**os.environ, "PYTHONPATH": path}
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert Path(printed.strip()).parent == Path(sysconfig.get_path("stdlib"))


def _twice(paths: list[Path]) -> list[Path]:
    return [path for path, count in Counter(path.resolve() for path in paths).items() if count > 1]


def test_ruff_sees_each_file_once() -> None:
    shown = _run(sys.executable, "-m", "ruff", "check", "--show-files", cwd=ROOT).splitlines()
    paths = [Path(line) for line in shown]
    assert _twice(paths) == []
    assert {path.resolve() for path in paths} >= {
        path.resolve() for part in PARTS for path in (ROOT / part).rglob("*.py")
    }


def test_mypy_sees_each_file_once_and_all_of_the_package() -> None:
    options = Options()
    options.namespace_packages = True  # as in pyproject.toml; platform/ is one
    found = FindModuleCache(SearchPaths((str(ROOT),), (), (), ()), None, options).find_modules_recursive("spin_rl")
    paths = [Path(source.path) for source in found if source.path and source.path.endswith(".py")]
    assert _twice(paths) == []
    ours = {name for name in _package_files() if name.endswith(".py")}
    assert {path.relative_to(ROOT).as_posix() for path in paths} == ours


def test_pytest_and_coverage_see_each_file_once() -> None:
    """No file has become two modules in this process, which has imported the package and its tests."""
    assert not [path for path in (ROOT / "tests").rglob("*") if path.is_symlink()]
    for name in ("spin_rl.envs", "spin_rl.platform.datasets.collect", "spin_rl.sweeps.baselines"):
        importlib.import_module(name)
    files = [Path(file) for module in [*sys.modules.values()] if (file := getattr(module, "__file__", None))]
    ours = [path for path in files if path.is_relative_to(ROOT) and ".venv" not in path.parts]
    assert len(ours) > 20
    assert _twice(ours) == []
    assert [path for path in ours if path.relative_to(ROOT).parts[0] in PARTS] == []


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
