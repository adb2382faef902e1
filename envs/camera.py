"""Pictures of a MuJoCo simulation without a display: EGL on a GPU or in software, OSMesa in software.

dm_control fixes its renderer when it is imported, for training to none; this one is chosen when the first picture is
asked for.
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
    """The first of ``BACKENDS`` that can draw here; only MUJOCO_GL's, where it names one of them.

    Each is tried in a process of its own: one that fails leaves its traces in the process, or takes it along.

    Raises:
        UserError: none can; says what to install.
    """
    named = os.environ.get("MUJOCO_GL", "").lower()
    for name in [named] if named in BACKENDS else BACKENDS:
        environment = {**os.environ, "MUJOCO_GL": name, "PYOPENGL_PLATFORM": name}
        probe = [sys.executable, "-c", _PROBE.format(backend=name)]
        if subprocess.run(probe, env=environment, capture_output=True, check=False).returncode == 0:
            return name
    tried = named if named in BACKENDS else " nor ".join(("neither EGL", "OSMesa"))
    raise UserError(
        f"Pictures of a simulation need a renderer, and {tried} works here: install Mesa's with "
        "`apt-get install libegl1 libgl1-mesa-dri` or `apt-get install libosmesa6`."
    )


class Camera:
    """Draws what a simulation's first fixed camera sees, or a free camera where the model has none."""

    def __init__(self, physics: Any, width: int = 480, height: int = 360) -> None:
        """``physics`` is dm_control's."""
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
        """The simulation as it is now, (height, width, 3) RGB."""
        self._context.make_current()
        option, every = mujoco.MjvOption(), mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self._model, self._data, option, None, self._view, every, self._scene)
        mujoco.mjr_render(self._rectangle, self._scene, self._drawing)
        mujoco.mjr_readPixels(self._pixels, None, self._rectangle, self._drawing)
        return self._pixels[::-1].copy()  # OpenGL's rows start at the bottom

    def close(self) -> None:
        """Free the drawing context."""
        self._drawing.free()
        self._context.free()
