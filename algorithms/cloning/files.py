"""Files of a clone: weights as safetensors, and what the network is built from as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from spin_rl.algorithms.asm.files import first_line
from spin_rl.algorithms.asm.model import ASMSizes
from spin_rl.algorithms.cloning.networks import get_network, sizes_of
from spin_rl.algorithms.policies import Policy
from spin_rl.algorithms.presets import Preset, get_preset
from spin_rl.errors import UserError
from spin_rl.platform.asm_store.digests import damage_of, has_digests

SHAPE = "clone.json"


def save_clone(policy: Policy, network: str, observation_size: int, preset: Preset, folder: Path) -> None:
    """Write a clone into an existing ``folder``."""
    shape = CloneShape(network, observation_size, tuple(policy.nvec), sizes_of(network, preset))
    save_file(policy.state_dict(), folder / "model.safetensors")
    (folder / SHAPE).write_text(json.dumps(shape._asdict(), indent=2))


class CloneShape(NamedTuple):
    """What a clone is built from."""

    network: str
    observation_size: int
    nvec: tuple[int, ...]
    sizes: Mapping[str, Any]

    def preset(self) -> Preset:
        """A preset with these sizes."""
        return get_preset("paper", **{k: ASMSizes(**v) if k == "asm" else v for k, v in self.sizes.items()})


def is_clone(folder: Path) -> bool:
    """Whether the checkpoint in ``folder`` is a clone's."""
    return (folder / SHAPE).exists()


def read_clone_shape(folder: Path) -> CloneShape:
    """What the clone in ``folder`` is built from; UserError where it holds none."""
    try:
        shape = CloneShape(**json.loads((folder / SHAPE).read_text()))
        shape = shape._replace(nvec=tuple(shape.nvec))
        shape.preset()
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise _unreadable(folder, error) from error
    return shape


def load_clone(folder: Path) -> Policy:
    """Read what ``save_clone`` wrote, in evaluation mode; UserError where there is no clone, or a damaged one."""
    if has_digests(folder) and (damage := damage_of(folder, "model.safetensors", SHAPE)):
        raise UserError(
            f"The clone in {folder} is damaged ({damage}): 'spin-rl asm verify' moves it aside, and the command that "
            "needs it makes it again."
        )
    shape = read_clone_shape(folder)
    policy = get_network(shape.network).build(shape.observation_size, shape.nvec, shape.preset())
    try:
        policy.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise _unreadable(folder, error) from error
    return policy.eval()


def check_clone_shape(
    shape: CloneShape, network: str, observation_size: int, nvec: tuple[int, ...], preset: Preset
) -> None:
    """UserError where a clone of ``shape`` is not what a policy of the other arguments starts from."""
    theirs = {"network": shape.network, "observation size": shape.observation_size, "nvec": tuple(shape.nvec)}
    ours = {"network": network, "observation size": observation_size, "nvec": tuple(nvec)}
    if shape.network == network:
        theirs |= _without_dropout(shape.sizes)
        ours |= _without_dropout(sizes_of(network, preset))
    for what, value in ours.items():
        if theirs[what] != value:
            raise UserError(
                f"The clone has {what} {theirs[what]}, the policy needs {value}: make one with the policy's method and "
                "preset on the policy's dataset."
            )


def _without_dropout(sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes by their own names; dropout has no weights, so that any fits."""
    flat = {**sizes, **sizes.get("asm", {})}
    return {name: value for name, value in flat.items() if name not in ("asm", "dropout", "policy_dropout")}


def _unreadable(folder: Path, error: Exception) -> UserError:
    return UserError(
        f"{folder} holds no clone that can be read ({first_line(error)}); "
        "make one with 'spin-rl pretrain TASK LEVEL --method METHOD'."
    )
