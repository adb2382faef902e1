"""docs/own-method.md: its examples, each two files, work as they are written."""

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs/own-method.md").read_text()


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


def new_file(text: str) -> str:
    """The path that the text names right before its first block."""
    return re.search(r"`([\w/]+\.py)`:\n\n```python", text)[1]


def python_blocks(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.S)


def add_entry(module: Path, registry: str, line: str, entry: str) -> None:
    """Add the import below the module's own and the entry at the end of the registry's."""
    code = module.read_text()
    imports, _, rest = code.rpartition("\nfrom spin_rl.")
    first, _, rest = rest.partition("\n")
    code = f"{imports}\nfrom spin_rl.{first}\n{line}{rest}"
    start, end = code.split(f"{registry}: Mapping[")
    entry = textwrap.indent(f"{entry.rstrip()},\n", 8 * " ")
    module.write_text(f"{start}{registry}: Mapping[" + end.replace("\n    )\n}", f"\n{entry}    )\n}}", 1))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the package, which is all that an example may touch."""
    ignored = shutil.ignore_patterns("__pycache__", "*.safetensors")
    shutil.copytree(REPOSITORY / "spin_rl", tmp_path / "spin_rl", ignore=ignored)
    return tmp_path


@pytest.mark.parametrize(
    ("title", "registry", "module", "printed"),
    [
        ("Add a policy", "METHODS", "algorithms/methods.py", ("iql", "awac", "bcq")),
        (
            "Add an objective",
            "OBJECTIVES",
            "algorithms/objectives/__init__.py",
            ("factored", "autoregressive", "saint"),
        ),
    ],
)
def test_an_example_trains_as_it_is_written_and_touches_two_files(tree, small_data, title, registry, module, printed):
    text = section(title)
    assert f"`{registry}`, in `{module}`" in text
    code, line, entry, script = python_blocks(text)
    path = tree / "spin_rl" / new_file(text)
    assert not path.exists()
    path.write_text(code)
    add_entry(tree / "spin_rl" / module, registry, line, entry)

    environment = os.environ | {"PYTHONPATH": str(tree), "SPIN_RL_DATA": str(small_data)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=tree, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert tuple(said.split()[0] for said in lines) == printed
    assert all("'actor_loss': " in said for said in lines)
