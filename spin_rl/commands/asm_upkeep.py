"""``spin-rl asm verify`` and ``asm gc``: upkeep of the store of action structure models."""

from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.progress import track
from rich.table import Table

from spin_rl.commands.asm_options import open_store
from spin_rl.commands.display import console
from spin_rl.commands.options import Storage
from spin_rl.platform.asm_store import upkeep

Chosen = Annotated[
    list[str] | None,
    typer.Argument(metavar="CHECKPOINT", help="Checkpoints: folders, KEY/STEP, or KEY; all by default."),
]


def verify(checkpoint: Chosen = None, storage: Storage = Path("results")) -> None:
    """Compare checkpoints with their digests; set damaged ones aside.

    The command that needs a damaged one makes it again. Exit code 1 where one is damaged.
    """
    store = open_store(storage)
    folders = [Path(store.find(one).path) for one in checkpoint] if checkpoint else upkeep.checkpoint_folders(store)
    checks = list(track(upkeep.verify(folders), "comparing", total=len(folders), console=console, transient=True))
    for found in checks:
        if found.damage:
            what = f"moved to {found.moved_to.name}" if found.moved_to else "its model is being extended, so it stays"
            console.print(f"[red]damaged[/] {found.path}: {found.damage}; {what}", soft_wrap=True)
    damaged = sum(found.damage is not None for found in checks)
    console.print(f"{len(checks)} checkpoints: {len(checks) - damaged} intact, {damaged} damaged.", soft_wrap=True)
    if damaged:
        console.print("The command that needs a damaged one makes it again, from the nearest earlier one.")
        raise typer.Exit(1)


def gc(
    days: Annotated[float, typer.Option(help="Keep what was made or used within so many days.", min=0)] = 30.0,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete what is listed; without this nothing changes.")
    ] = False,
    storage: Storage = Path("results"),
) -> None:
    """Show models that no sweep uses any more; with --delete, delete them."""
    found = upkeep.survey(storage.absolute(), days)
    garbage = [one for one in found if not one.kept_for]
    young = sum(one.kept_for == "age" for one in found)
    if garbage:
        table = Table("what", "model", "days", "MB", box=SIMPLE_HEAD, pad_edge=False)
        for one in garbage:
            table.add_row(one.path.name, one.path.parent.name, f"{one.days:.1f}", f"{one.size / 1e6:.1f}")
        console.print(table)
    console.print(
        f"Kept: {len(found) - len(garbage) - young} that sweeps refer to, {young} made or used in the last {days:g} "
        "days.",
        soft_wrap=True,
    )
    if delete:
        gone = upkeep.free(garbage)
        console.print(f"Freed {_amount(gone)}.")
        if len(gone) < len(garbage):
            console.print(f"[yellow]{len(garbage) - len(gone)} belong to models that are being extended: kept.[/]")
    else:
        console.print(f"To free {_amount(garbage)}: the same with --delete." if garbage else "Nothing to free.")


def _amount(folders: list[upkeep.StoredFolder]) -> str:
    return f"{len(folders)} folders, {sum(one.size for one in folders) / 1e6:.1f} MB"
