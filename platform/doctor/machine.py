"""Checks of this machine: Python, versions, GPU, MuJoCo and rendering.

The libraries are imported where they are checked: a broken one is a finding, not an ImportError.
"""

import importlib.metadata
import os
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path

from packaging.version import Version

from spin_rl.platform.common.findings import Finding, State, first_line
from spin_rl.platform.common.pins import read_pins, requirements

_GIB = 2**30


def check_python() -> Finding:
    """Python's version, and whether anything in the working directory shadows its ``platform`` module."""
    text = f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}"
    if Path(platform.__file__).parent != Path(sysconfig.get_path("stdlib")):
        return Finding(
            "Python", State.PROBLEM, f"{platform.__file__} shadows Python's own platform module", "delete that file"
        )
    return Finding("Python", State.OK, text)


def check_versions(pins: Path) -> Finding:
    """Installed versions outside the package's ranges (a problem), or different from the exact pins (a warning)."""
    outside = []
    for requirement in requirements():
        found = _installed(requirement.name)
        if found is None or not requirement.specifier.contains(Version(found).public, prereleases=True):
            outside.append(f"{requirement.name} {found or 'is missing'} (wanted {requirement.specifier})")
    if pins.is_file():
        fix = "make setup" if pins.with_name("Makefile").is_file() else f"{sys.executable} -m pip install -r {pins}"
    else:
        fix = f"{sys.executable} -m pip install -U spin-rl"
    if outside:
        return Finding("versions", State.PROBLEM, ", ".join(outside), fix)
    if not pins.is_file():
        return Finding("versions", State.OK, "all within the package's ranges; no pins beside an installed package")
    needed = {requirement.name.lower().replace("_", "-") for requirement in requirements()}
    pinned = read_pins(pins)
    moved = {
        name: _installed(name)
        for name, version in pinned.items()
        # Packages that only the tests need may be missing from an image.
        if not _same(_installed(name), version) and (_installed(name) or name.lower().replace("_", "-") in needed)
    }
    if moved:
        text = ", ".join(f"{name} {found} (pinned {pinned[name]})" for name, found in moved.items())
        return Finding("versions", State.WARNING, text, fix)
    return Finding("versions", State.OK, f"as pinned ({len(pinned)} packages)")


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _same(found: str | None, pinned: str) -> bool:
    # A local suffix such as +cpu names the build, not the version.
    return found is not None and Version(found).public == Version(pinned).public


def check_gpu() -> Finding:
    """The GPU as torch sees it, with its driver; a machine without one is fine."""
    try:
        import torch  # seconds, and one check of many
    except Exception as error:  # such as an OSError of a library that does not load
        fix = f"{sys.executable} -m pip install -r requirements.txt"
        return Finding("GPU", State.PROBLEM, f"torch cannot be imported: {first_line(error)}", fix)
    driver = _driver()
    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        names = ", ".join(f"{device.name} {device.total_memory / _GIB:.0f} GiB" for device in devices)
        return Finding("GPU", State.OK, f"{names}; driver {driver or 'unknown'}, CUDA {torch.version.cuda}")
    if driver and torch.version.cuda is None:
        return Finding(
            "GPU",
            State.WARNING,
            f"driver {driver} is installed, but torch {torch.__version__} is built for the CPU",
            "install a CUDA build of the pinned torch",
        )
    if driver:
        return Finding(
            "GPU",
            State.WARNING,
            f"driver {driver} is installed, but torch {torch.__version__} cannot use it",
            f"install a driver that supports CUDA {torch.version.cuda}, and check CUDA_VISIBLE_DEVICES",
        )
    return Finding("GPU", State.OK, "none; training runs on the CPU")


def _driver() -> str | None:
    """Version of the NVIDIA driver; None if there is none."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.split("\n")[0].strip() or None


def check_mujoco() -> Finding:
    """Whether MuJoCo and DM Control can step a task."""
    try:
        from spin_rl.envs import get_task  # imports MuJoCo, which is what is checked

        env = get_task("cheetah-run").make()
        env.reset(seed=0)
        env.step(env.action_space.sample())
        env.close()
    except Exception as error:  # any failure of the libraries is the finding
        return Finding(
            "MuJoCo", State.PROBLEM, first_line(error), f"{sys.executable} -m pip install -r requirements.txt"
        )
    return Finding("MuJoCo", State.OK, f"{_installed('mujoco')} steps cheetah-run")


_RENDER = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='1'/></worldbody></mujoco>")
renderer = mujoco.Renderer(model, 16, 16)
renderer.update_scene(mujoco.MjData(model))
renderer.render()
"""


def check_rendering() -> Finding:
    """Which of MuJoCo's back ends can render, each tried in its own process because a process can load only one."""
    working = [backend for backend in ("egl", "osmesa", "glfw") if _renders(backend)]
    if working:
        return Finding("rendering", State.OK, f"MUJOCO_GL={' or '.join(working)}")
    return Finding(
        "rendering",
        State.WARNING,
        "no back end works, so no videos can be made; training needs none",
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
