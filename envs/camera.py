"""Rendering a MuJoCo simulation without a display: EGL on a GPU or in software, OSMesa in software.

dm_control fixes its renderer on import (for training: none); the one used here is chosen when the first picture is
requested.
"""

import os
import subprocess
import sys
from functools import cache
from importlib import import_module
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from spin_rl.errors import UserError

BACKENDS = ("egl", "osmesa")

_PROBE = """
import mujoco
from mujoco.{backend} import GLContext
context = GLContext(64, 64)
context.make_current()
mujoco.MjrContext(mujoco.MjModel.from_xml_string("<mujoco/>"), 150)
"""


@cache
def backend() -> str:
    """The first of ``BACKENDS`` that works on this machine; if MUJOCO_GL names one of them, only that one is tried.

    Each is probed in a separate process, because a failing back end can leave its process unusable or crash it.

    Raises:
        UserError: none works; the message says what to install.
    """
    named = os.environ.get("MUJOCO_GL", "").lower()
    for name in [named] if named in BACKENDS else BACKENDS:
        environment = {**os.environ, "MUJOCO_GL": name, "PYOPENGL_PLATFORM": name}
        probe = [sys.executable, "-c", _PROBE.format(backend=name)]
        if subprocess.run(probe, env=environment, capture_output=True, check=False).returncode == 0:
            return name
    failed = f"{named} does not work here" if named in BACKENDS else "neither EGL nor OSMesa works here"
    raise UserError(
        f"Rendering a simulation needs a renderer, and {failed}: install Mesa's with "
        "`apt-get install libegl1 libgl1-mesa-dri` or `apt-get install libosmesa6`."
    )


class Camera:
    """Renders a simulation from its model's first fixed camera, or from a free camera if the model has none."""

    def __init__(self, physics: Any, width: int = 480, height: int = 360) -> None:
        """
        Args:
            physics: dm_control's.
            width: of a picture, in pixels.
            height: of a picture, in pixels.
        """
        name = backend()
        os.environ["PYOPENGL_PLATFORM"] = name
        self._context = import_module(f"mujoco.{name}").GLContext(width, height)
        self._context.make_current()
        self._model, self._data = physics.model.ptr, physics.data.ptr
        self._model.vis.global_.offwidth, self._model.vis.global_.offheight = width, height
        self._drawing = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_150)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._drawing)
        self._scene = mujoco.MjvScene(self._model, maxgeom=10_000)
        self._view = mujoco.MjvCamera()
        if self._model.ncam:
            self._view.type, self._view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, 0
        self._rectangle = mujoco.MjrRect(0, 0, width, height)
        self._pixels = np.empty((height, width, 3), np.uint8)

    def picture(self) -> NDArray[np.uint8]:
        """The current state of the simulation, (height, width, 3) RGB."""
        self._context.make_current()
        option, every = mujoco.MjvOption(), mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self._model, self._data, option, None, self._view, every, self._scene)
        mujoco.mjr_render(self._rectangle, self._scene, self._drawing)
        mujoco.mjr_readPixels(self._pixels, None, self._rectangle, self._drawing)
        return self._pixels[::-1].copy()  # OpenGL's rows start at the bottom

    def close(self) -> None:
        """Free the OpenGL context."""
        self._drawing.free()
        self._context.free()
