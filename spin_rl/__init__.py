"""SPIN-RL: offline reinforcement learning in large discrete action spaces, distributed with Ray."""

from importlib.metadata import version
from pathlib import Path

__version__ = version("spin-rl")

# An editable install maps the four folders into this package, but setuptools' finder passes over one without an
# __init__.py inside a package that has one. In a checkout platform/ is found beside this folder instead.
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "pyproject.toml").is_file():
    __path__.append(str(_checkout))
