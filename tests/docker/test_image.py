"""The image's package: what of this tree Docker gets, and the wheel that is built from it."""

import re
import shutil
import subprocess
import zipfile
from functools import cache
from pathlib import Path

import pytest
from manifests import DOCKER, ROOT

PARTS = ("algorithms", "envs", "platform", "sweeps")


@cache
def patterns() -> list[tuple[bool, re.Pattern[str]]]:
    """The lines of the ignore file: whether each lets through what it matches, and what that is, by Docker's rules."""
    found = []
    for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            text = re.escape(line.removeprefix("!"))
            text = text.replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*")
            found.append((line.startswith("!"), re.compile(text)))
    return found


def is_sent(name: str) -> bool:
    """Whether a path is part of the build context: the last line decides that matches it or a folder above it."""
    parts = name.split("/")
    above = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
    sent = True
    for lets_through, pattern in patterns():
        if any(pattern.fullmatch(path) for path in above):
            sent = lets_through
    return sent


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``COPY . .`` gives: links stay links."""
    folder = tmp_path_factory.mktemp("context")
    not_sent = [
        word for name in (".git", ".venv", "results", "data") for word in ("-path", f"./{name}", "-prune", "-o")
    ]
    command = ["find", ".", *not_sent, "-not", "-type", "d", "-print"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in sorted(line.removeprefix("./") for line in listed.stdout.splitlines()):
        if is_sent(name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    return folder


def test_the_build_context_holds_the_package_with_its_links_and_little_else(context: Path) -> None:
    top = {path.name for path in context.iterdir()}
    assert top == {"spin_rl", *PARTS, "docker", "pyproject.toml", "requirements.txt", "README.md", "LICENSE"}
    assert {path.suffix for path in (context / "docker").iterdir()} == {".sh"}
    for part in PARTS:
        assert (context / "spin_rl" / part).readlink() == Path("..") / part
    assert not list(context.rglob("__pycache__"))


@pytest.mark.integration
def test_the_images_wheel_holds_the_whole_package(context: Path, tmp_path: Path) -> None:
    subprocess.run(["sh", "docker/install.sh", "wheel", str(tmp_path)], cwd=context, check=True)
    (path,) = tmp_path.glob("spin_rl-*.whl")
    built = {name for name in zipfile.ZipFile(path).namelist() if ".dist-info/" not in name}
    ours = {f"spin_rl/{name}" for name in files(ROOT / "spin_rl")}
    assert built == ours | {f"spin_rl/{part}/{name}" for part in PARTS for name in files(ROOT / part)}


def files(folder: Path) -> list[str]:
    """Every file below a folder but caches, relative to it; links are not followed."""
    paths = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return [path.relative_to(folder).as_posix() for path in paths]
