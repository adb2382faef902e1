"""Files of an action structure model: weights as safetensors, shape as JSON."""

import json
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from spin_rl.algorithms.asm.model import ActionStructureModel, ASMSizes
from spin_rl.errors import UserError
from spin_rl.platform.asm_store.digests import damage_of, has_digests


def save_asm(model: ActionStructureModel, folder: Path) -> None:
    """Write an action structure model: weights as safetensors, shape as JSON."""
    shape = {"observation_size": model.observation_size, "nvec": model.nvec, "sizes": model.sizes.to_dict()}
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "model.json").write_text(json.dumps(shape, indent=2))


class ASMShape(NamedTuple):
    """What an action structure model is built from."""

    observation_size: int
    nvec: tuple[int, ...]
    sizes: ASMSizes


def read_shape(folder: Path) -> ASMShape:
    """The shape of the model in ``folder``; UserError where it holds none."""
    try:
        shape = json.loads((folder / "model.json").read_text())
        return ASMShape(shape["observation_size"], tuple(shape["nvec"]), ASMSizes(**shape["sizes"]))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise _unreadable(folder, error) from error


def load_asm(folder: Path) -> ActionStructureModel:
    """Read what ``save_asm`` wrote; UserError where the folder holds no model, or a damaged one."""
    if has_digests(folder) and (damage := damage_of(folder, "model.safetensors", "model.json")):
        raise UserError(
            f"The model in {folder} is damaged ({damage}): 'spin-rl asm verify' moves it aside, and the command that "
            "needs it makes it again."
        )
    model = ActionStructureModel(*read_shape(folder))
    try:
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise _unreadable(folder, error) from error
    return model


def _unreadable(folder: Path, error: Exception) -> UserError:
    return UserError(
        f"{folder} holds no action structure model that can be read ({first_line(error)}); "
        "make one with 'spin-rl pretrain TASK LEVEL'."
    )


def first_line(error: Exception) -> str:
    """The first line of an error; torch lists every tensor that does not fit."""
    return str(error).partition("\n")[0].rstrip(":")
