"""What the commands on stored models and their files share."""

import hashlib
from pathlib import Path
from typing import Annotated, Any

import typer

from spin_rl.platform.asm_store.store import ASMStore, asm_root

Reference = Annotated[
    str,
    typer.Argument(metavar="CHECKPOINT", help="A checkpoint: its folder, KEY/STEP, or KEY for a model's last one."),
]
References = Annotated[
    list[str],
    typer.Argument(metavar="CHECKPOINT", help="Checkpoints: folders, KEY/STEP, or KEY for a model's last one."),
]
InFile = Annotated[Path, typer.Argument(metavar="FILE", help="State dict: .pt, .pth or .safetensors.")]
OutFile = Annotated[Path, typer.Argument(metavar="FILE", help="New file: .pt, .pth or .safetensors.")]
Heads = Annotated[int, typer.Option(help="Attention heads, which a state dict does not record.", min=1)]


def open_store(storage: Path) -> ASMStore:
    """The store of action structure models in a storage."""
    return ASMStore(asm_root(storage.absolute()))


def objective_of(identity: dict[str, Any]) -> str:
    """What a model was pretrained with: its objective, ``imported``, or ``bc`` for a clone."""
    if identity.get("kind") == "bc":
        return "bc"
    return "imported" if "imported" in identity else str(identity.get("objective", "mam"))


def file_digest(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
