"""Files of tensors by name: safetensors, or PyTorch's own format read without running any code of it."""

import os
import pickle
from pathlib import Path
from typing import TypeGuard

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from spin_rl.errors import UserError

SUFFIXES = (".safetensors", ".pt", ".pth")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors by name; a file may also hold them as its only entry of that kind, beside an optimiser's state.

    Raises:
        UserError: there is no such file, it holds something else, or reading it would run code.
    """
    _check_suffix(path)
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _load_pt(path)
    except FileNotFoundError:
        raise UserError(f"There is no file {path}.") from None
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} cannot be read as tensors by name ({reason}); save a plain state dict.") from error
    if _is_state_dict(content):
        return dict(content)
    entries = content if isinstance(content, dict) else {}
    inside = [name for name, value in entries.items() if _is_state_dict(value)]
    if len(inside) != 1:
        found = f"the entries {', '.join(map(str, entries))}" if entries else f"a {type(content).__name__}"
        raise UserError(f"{path} holds {found}, and not one state dict: save that alone.")
    return dict(entries[inside[0]])


def write_state_dict(tensors: dict[str, Tensor], path: Path) -> None:
    """Write a file whole or not at all, by its suffix; UserError where it exists already."""
    _check_suffix(path)
    if path.exists():
        raise UserError(f"{path} exists already; name another file.")
    beside = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors":
            save_file(tensors, beside)
        else:
            torch.save(tensors, beside)
        beside.rename(path)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise UserError(f"{path} could not be written ({error}).") from error
    finally:
        beside.unlink(missing_ok=True)


def _load_pt(path: Path) -> object:
    return torch.load(path, map_location="cpu", weights_only=True)


def _is_state_dict(value: object) -> TypeGuard[dict[str, Tensor]]:
    return isinstance(value, dict) and bool(value) and all(isinstance(entry, Tensor) for entry in value.values())


def _check_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path} is no file of tensors by its name; one ends in {', '.join(SUFFIXES)}.")
