"""What is there on this machine and what is wrong with it: a list of findings, each with its mend.

Every check is a function that gives findings and never raises: a broken machine is what they are for.
"""

import importlib.metadata
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from packaging.requirements import Requirement
from packaging.version import Version

PINS = Path(__file__).resolve().parent.parent / "requirements.txt"
"""The pins, where the package runs from a checkout; an installed wheel has only its ranges."""

_TIMEOUT = 5.0  # seconds for one answer over the network
_GIB = 2**30


class State(StrEnum):
    """How bad a finding is; only a problem makes ``spin-rl doctor`` fail."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what it is, how it stands and what to do about it."""

    subject: str
    state: State
    text: str
    mend: str = ""


def examine(*, storage: str, data: str, address: str | None, tracking_uri: str) -> Iterator[Finding]:
    """Every finding, in the order in which a person would mend them.

    Args:
        storage: where results go, a folder or any fsspec location.
        data: where datasets lie, the same.
        address: a Ray cluster, ``host:port`` or the ``http://`` address that takes jobs; None skips the check.
        tracking_uri: MLflow's store.
    """
    yield check_python()
    yield from check_versions(PINS)
    yield check_gpu()
    yield check_mujoco()
    yield check_rendering()
    for subject, location in (("storage", storage), ("data", data)):
        yield check_disk(subject, location)
        yield check_writable(subject, location)
    if address:
        yield check_ray(address)
    yield check_tracking(tracking_uri)


def check_python() -> Finding:
    """Python's version, and that nothing in the working directory hides its ``platform`` module."""
    text = f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}"
    if Path(platform.__file__).parent != Path(sysconfig.get_path("stdlib")):
        return Finding(
            "Python", State.PROBLEM, f"{platform.__file__} hides Python's own platform module", "delete that file"
        )
    return Finding("Python", State.OK, text)


def check_versions(pins: Path) -> list[Finding]:
    """Installed versions against the package's ranges (a problem) and against the exact pins (a warning)."""
    outside = []
    for line in importlib.metadata.requires("spin-rl") or []:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = _installed(requirement.name)
        if found is None or not requirement.specifier.contains(Version(found).public, prereleases=True):
            outside.append(f"{requirement.name} {found or 'is missing'} (wanted {requirement.specifier})")
    mend = "make setup" if pins.is_file() else f"{sys.executable} -m pip install -U spin-rl"
    if outside:
        return [Finding("versions", State.PROBLEM, ", ".join(outside), mend)]
    if not pins.is_file():
        return [Finding("versions", State.OK, "all within the package's ranges; no pins beside an installed package")]
    pinned = read_pins(pins)
    moved = {name: _installed(name) for name, version in pinned.items() if not _same(_installed(name), version)}
    if moved:
        text = ", ".join(f"{name} {found or 'missing'} (pinned {pinned[name]})" for name, found in moved.items())
        return [Finding("versions", State.WARNING, text, mend)]
    return [Finding("versions", State.OK, f"all {len(pinned)} pinned packages are as pinned")]


def read_pins(path: Path) -> Mapping[str, str]:
    """Version by package name of a requirements file in which every line is ``name==version``."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return dict(line.split("==", 1) for line in lines if line)


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _same(found: str | None, pinned: str) -> bool:
    # A local suffix such as +cpu says which build it is, not which version.
    return found is not None and Version(found).public == Version(pinned).public


def check_gpu() -> Finding:
    """The GPU as torch sees it, with its driver; having none is no fault."""
    import torch

    driver = _driver()
    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        names = ", ".join(f"{device.name} {device.total_memory / _GIB:.0f} GiB" for device in devices)
        return Finding("GPU", State.OK, f"{names}; driver {driver or 'unknown'}, CUDA {torch.version.cuda}")
    if driver and torch.version.cuda is None:
        return Finding(
            "GPU",
            State.WARNING,
            f"driver {driver} is there, but torch {torch.__version__} is built for the CPU",
            "install a CUDA build of the pinned torch",
        )
    if driver:
        return Finding(
            "GPU",
            State.WARNING,
            f"driver {driver} is there, but torch {torch.__version__} cannot use it",
            f"install a driver that supports CUDA {torch.version.cuda}, and look at CUDA_VISIBLE_DEVICES",
        )
    return Finding("GPU", State.OK, "none; training runs on the CPU")


def _driver() -> str | None:
    """Version of the NVIDIA driver, None without one."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.split("\n")[0].strip() or None


def check_mujoco() -> Finding:
    """MuJoCo and DM Control step a task."""
    try:
        import mujoco

        from spin_rl.envs import get_task

        env = get_task("cheetah-run").make()
        env.reset(seed=0)
        env.step(env.action_space.sample())
        env.close()
    except Exception as error:  # whatever is wrong with the libraries is what is to be told
        return Finding(
            "MuJoCo", State.PROBLEM, _first_line(error), f"{sys.executable} -m pip install -r requirements.txt"
        )
    return Finding("MuJoCo", State.OK, f"{mujoco.__version__} steps cheetah-run")


_RENDER = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='1'/></worldbody></mujoco>")
renderer = mujoco.Renderer(model, 16, 16)
renderer.update_scene(mujoco.MjData(model))
renderer.render()
"""


def check_rendering() -> Finding:
    """Which of MuJoCo's back ends draw a picture, each tried in a process of its own because a process has only one."""
    working = [backend for backend in ("egl", "osmesa", "glfw") if _renders(backend)]
    if working:
        return Finding("rendering", State.OK, f"MUJOCO_GL={' or '.join(working)}")
    return Finding(
        "rendering",
        State.WARNING,
        "no back end works, so no videos; training needs none",
        "apt-get install libegl1 (GPU) or libosmesa6 (CPU)",
    )


def _renders(backend: str) -> bool:
    environment = {**os.environ, "MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend}
    if backend == "glfw":
        del environment["PYOPENGL_PLATFORM"]
    try:
        process = subprocess.run([sys.executable, "-c", _RENDER], env=environment, capture_output=True, timeout=60)
    except subprocess.SubprocessError:
        return False
    return process.returncode == 0


def check_disk(subject: str, location: str) -> Finding:
    """Free space where ``location`` lies or will lie."""
    subject = f"{subject}: space"
    if _is_remote(location):
        return Finding(subject, State.OK, f"{location} is not on this machine")
    free = shutil.disk_usage(_nearest_folder(location)).free / _GIB
    text = f"{free:.1f} GiB free for {location}"
    mend = f"free some, or name another place with --{subject.split(':')[0]}"
    if free < 1:
        return Finding(subject, State.PROBLEM, text, mend)
    return Finding(subject, State.WARNING, text, mend) if free < 5 else Finding(subject, State.OK, text)


def check_writable(subject: str, location: str) -> Finding:
    """A small file can be written where ``location`` lies or will lie, and deleted again."""
    try:
        if _is_remote(location):
            import fsspec

            filesystem, folder = fsspec.core.url_to_fs(location)
            probe = f"{folder.rstrip('/')}/.spin-rl-doctor-{uuid.uuid4().hex}"
            filesystem.pipe_file(probe, b"probe")
            filesystem.rm_file(probe)
        else:
            with tempfile.TemporaryFile(dir=_nearest_folder(location)) as file:
                file.write(b"probe")
    except Exception as error:  # every file system has errors of its own
        return Finding(
            subject,
            State.PROBLEM,
            f"{location} cannot be written: {_first_line(error)}",
            f"grant write access and credentials, or name another place with --{subject}",
        )
    return Finding(subject, State.OK, f"{location} can be written")


def _is_remote(location: str) -> bool:
    return "://" in location and not location.startswith("file://")


def _nearest_folder(location: str) -> Path:
    """The folder itself or, where it is not made yet, the nearest parent that is there."""
    path = Path(location.removeprefix("file://")).absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def check_ray(address: str) -> Finding:
    """The cluster answers and, where jobs are submitted to it, takes our token and runs the Ray of this machine."""
    if address in ("auto", "local"):
        return Finding("Ray", State.OK, f"address {address}: found or started when a command needs it")
    parts = urlsplit(address if "://" in address else f"ray://{address}")
    mend = "start the cluster, or mend the address: host:6379, or http://host:8265 for jobs"
    try:
        socket.create_connection((parts.hostname or "", parts.port or 80), timeout=_TIMEOUT).close()
    except (OSError, ValueError) as error:
        return Finding("Ray", State.PROBLEM, f"{address} does not answer: {_first_line(error)}", mend)
    if parts.scheme == "ray":
        return Finding("Ray", State.OK, f"{address} answers")

    import ray
    from ray.job_submission import JobSubmissionClient

    try:
        found = JobSubmissionClient(address).get_version()
    except Exception as error:  # a wrong token, another service at this port, a Ray too old
        mend = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN where the cluster asks for a token; look at the address"
        return Finding("Ray", State.PROBLEM, f"{address} is no Ray cluster for us: {_first_line(error)}", mend)
    if found != ray.__version__:
        mend = f"run the cluster from an image with ray=={ray.__version__}"
        return Finding("Ray", State.PROBLEM, f"{address} runs Ray {found}, here is {ray.__version__}", mend)
    return Finding("Ray", State.OK, f"{address} runs Ray {found}")


def check_tracking(uri: str) -> Finding:
    """MLflow's server answers, or the folder of its SQLite file can be written."""
    if uri.startswith("sqlite:///"):
        file = Path(uri.removeprefix("sqlite:///"))
        finding = check_writable("storage", str(file.parent))
        if finding.state is State.PROBLEM:
            return Finding(
                "tracking", State.PROBLEM, finding.text, "set MLFLOW_TRACKING_URI to sqlite:///<another file>"
            )
        return Finding("tracking", State.OK, f"SQLite file {file}")
    if not uri.startswith(("http://", "https://")):
        return Finding(
            "tracking",
            State.WARNING,
            f"{_hide_password(uri)} is neither a server nor a SQLite file; not checked",
            "set MLFLOW_TRACKING_URI to http://host:5000 or sqlite:///file",
        )
    parts = urlsplit(uri)
    health = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}/health"
    try:
        with urllib.request.urlopen(health, timeout=_TIMEOUT):
            return Finding("tracking", State.OK, f"{_hide_password(uri)} answers")
    except (OSError, ValueError) as error:
        return Finding(
            "tracking",
            State.PROBLEM,
            f"{_hide_password(uri)} does not answer: {_first_line(error)}",
            "start the server, or unset MLFLOW_TRACKING_URI to track in a SQLite file",
        )


def _hide_password(uri: str) -> str:
    return re.sub(r"//[^/@]*@", "//***@", uri)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
