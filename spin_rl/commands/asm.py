"""``spin-rl asm``: the models in the store, and their export and import as files of the published layout."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from spin_rl.algorithms.asm.files import load_asm, read_shape
from spin_rl.algorithms.cloning.files import is_clone, load_clone, read_clone_shape
from spin_rl.algorithms.published.imports import store_imported_asm
from spin_rl.algorithms.published.interchange import export_asm, import_asm
from spin_rl.algorithms.published.state_dicts import read_state_dict, write_state_dict
from spin_rl.commands.asm_options import Heads, InFile, OutFile, Reference, file_digest, objective_of, open_store
from spin_rl.commands.display import console
from spin_rl.commands.options import Bins, DataRoot, Storage, TaskName
from spin_rl.commands.run_display import show_checkpoint
from spin_rl.platform.asm_store.store import ASMCheckpoint, ASMStore
from spin_rl.platform.datasets import open_dataset


def list_(storage: Storage = Path("results")) -> None:
    """List the models in the store: settings, accuracy, cost."""
    store = open_store(storage)
    checkpoints = store.all()
    if not checkpoints:
        console.print(f"No models in {store.root}; 'spin-rl pretrain TASK LEVEL' makes one.", soft_wrap=True)
        return
    datasets: dict[str, list[ASMCheckpoint]] = {}
    for checkpoint in checkpoints:
        where = Path(checkpoint.path).parent.parent.relative_to(store.root).as_posix()
        datasets.setdefault(where, []).append(checkpoint)
    for where, found in datasets.items():
        console.print(_table_of(where, found, store))
    console.print("model: objective (bc: a clone), masking rate or network, width x layers")
    console.print("held out, fully masked (a clone sees the state alone): cross-entropy, accuracy")


def _table_of(where: str, checkpoints: list[ASMCheckpoint], store: ASMStore) -> Table:
    table = Table(title=where, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in ("checkpoint", "model", "epoch", "held out", "fully masked", "seconds"):
        table.add_column(column, no_wrap=True)
    for checkpoint in checkpoints:
        identity = store.identity(checkpoint)
        words = (objective_of(identity), _masking_of(identity), _size_of(identity))
        table.add_row(
            f"{checkpoint.key[:8]}/{checkpoint.step}",
            " ".join(filter(None, words)),
            f"{checkpoint.epoch:.1f}",
            f"{checkpoint.validation_loss:.3f} {checkpoint.validation_accuracy:.1%}",
            f"{checkpoint.full_loss:.3f} {checkpoint.full_accuracy:.1%}",
            f"{checkpoint.pretrain_seconds:.0f}",
        )
    return table


def show(checkpoint: Reference, storage: Storage = Path("results")) -> None:
    """Show everything that is known about one model."""
    store = open_store(storage)
    found = store.find(checkpoint)
    folder = Path(found.path)
    model = load_clone(folder) if is_clone(folder) else load_asm(folder)
    shape = read_clone_shape(folder) if is_clone(folder) else read_shape(folder)
    table = Table(show_header=False, title=f"{found.key}/{found.step}")
    for name, value in {**asdict(found), **_flat(store.identity(found))}.items():
        table.add_row(name, f"{value:.6g}" if isinstance(value, float) else str(value))
    table.add_row("observation_size", str(shape.observation_size))
    table.add_row("nvec", str(list(shape.nvec)))
    table.add_row("parameters", f"{sum(parameter.numel() for parameter in model.parameters()):,}")
    console.print(table)


def export(checkpoint: Reference, file: OutFile, storage: Storage = Path("results")) -> None:
    """Export a model as a state dict of the published layout."""
    model = load_asm(Path(open_store(storage).find(checkpoint).path))
    write_state_dict(export_asm(model), file)
    console.print(
        f"{file}: {model.sizes.heads} attention heads (a state dict does not record their number).", soft_wrap=True
    )


def import_(
    file: InFile,
    task: TaskName,
    level: Annotated[str, typer.Argument(metavar="LEVEL", help="Level of the dataset that it was pretrained on.")],
    bins: Bins = 3,
    heads: Heads = 4,
    steps: Annotated[int | None, typer.Option(help="Its pretraining steps, if known.", min=0)] = None,
    epochs: Annotated[int | None, typer.Option(help="Instead of --steps: epochs of the dataset.", min=0)] = None,
    seconds: Annotated[float, typer.Option(help="Its seconds of pretraining, if known.", min=0)] = 0.0,
    root: DataRoot = "data",
    storage: Storage = Path("results"),
) -> None:
    """Import a model of the published layout into the store.

    Prints the checkpoint, for 'spin-rl train spin --asm'.
    """
    model = import_asm(read_state_dict(file), heads=heads)
    dataset = open_dataset(task, level, bins=bins, root=root)
    found = store_imported_asm(
        open_store(storage), dataset, model, origin=file_digest(file), steps=steps, epochs=epochs, seconds=seconds
    )
    show_checkpoint(found)
    command = (
        f"spin-rl train spin {task} {level}{f' --bins {bins}' if bins != 3 else ''} --asm {found.key}/{found.step}"
    )
    console.print(f"To train a policy on it: [bold]{command}[/]", soft_wrap=True)


def _size_of(identity: dict[str, Any]) -> str:
    """Width and layers of an action structure model, or the network of a clone with its widths."""
    sizes = identity["sizes"]
    if "asm" in sizes:
        sizes = sizes["asm"]
    words = [str(identity["network"])] if "network" in identity else []
    if "layers" in sizes:
        words.append("{width}x{layers}".format(**sizes))
    else:
        words += [str(value) for name, value in sizes.items() if name in ("policy_width", "lstm_width")]
    return " ".join(words)


def _masking_of(identity: dict[str, Any]) -> str:
    if objective_of(identity) not in ("mam", "cam"):  # the others hide nothing, or everything
        return ""
    masking = identity["masking"]
    return "variable" if masking["variable"] else f"{masking['rate']:g}"


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Nested dictionaries under dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        inner = _flat(value) if isinstance(value, dict) else None
        flat |= {f"{name}.{key}": one for key, one in inner.items()} if inner is not None else {name: value}
    return flat
