"""``spin-rl asm`` and ``spin-rl policy``: the models in the store, and files of the published layout, in and out."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from spin_rl.commands import asm_upkeep
from spin_rl.commands.options import Bins, Root, Storage, TaskName

if TYPE_CHECKING:
    from spin_rl.platform.asm_store.store import ASMCheckpoint, ASMStore

app = typer.Typer(no_args_is_help=True, help="Pretrained action structure models: look at them, bring them in and out.")
policy_app = typer.Typer(no_args_is_help=True, help="Trained policies: bring them in and out.")
console = Console()

Reference = Annotated[
    str,
    typer.Argument(metavar="CHECKPOINT", help="A checkpoint: its folder, KEY/STEP, or KEY for the last of a model."),
]
InFile = Annotated[Path, typer.Argument(metavar="FILE", help="State dict: .pt, .pth or .safetensors.")]
OutFile = Annotated[Path, typer.Argument(metavar="FILE", help="New file: .pt, .pth or .safetensors.")]
Heads = Annotated[int, typer.Option(help="Attention heads; a state dict does not tell.", min=1)]


@app.command("list")
def list_(storage: Storage = Path("results")) -> None:
    """The models in the store: what they were pretrained with, how well they predict, what they cost."""
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
    console.print("model: objective, masking rate, width x layers; held out, fully masked: cross-entropy, accuracy")


def _table_of(where: str, checkpoints: "list[ASMCheckpoint]", store: "ASMStore") -> Table:
    table = Table(title=where, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in ("checkpoint", "model", "epoch", "held out", "fully masked", "seconds"):
        table.add_column(column, no_wrap=True)
    for checkpoint in checkpoints:
        identity = store.identity(checkpoint)
        words = (objective_of(identity), _masking_of(identity), "{width}x{layers}".format(**identity["sizes"]))
        table.add_row(
            f"{checkpoint.key[:8]}/{checkpoint.step}",
            " ".join(filter(None, words)),
            f"{checkpoint.epoch:.1f}",
            f"{checkpoint.validation_loss:.3f} {checkpoint.validation_accuracy:.1%}",
            f"{checkpoint.full_loss:.3f} {checkpoint.full_accuracy:.1%}",
            f"{checkpoint.pretrain_seconds:.0f}",
        )
    return table


@app.command()
def show(checkpoint: Reference, storage: Storage = Path("results")) -> None:
    """Everything that is known about one model."""
    from dataclasses import asdict

    from spin_rl.algorithms.asm.files import load_asm

    store = open_store(storage)
    found = store.find(checkpoint)
    model = load_asm(Path(found.path))
    table = Table(show_header=False, title=f"{found.key}/{found.step}")
    for name, value in {**asdict(found), **_flat(store.identity(found))}.items():
        table.add_row(name, f"{value:.6g}" if isinstance(value, float) else str(value))
    table.add_row("observation_size", str(model.observation_size))
    table.add_row("nvec", str(list(model.nvec)))
    table.add_row("parameters", f"{sum(parameter.numel() for parameter in model.parameters()):,}")
    console.print(table)


@app.command()
def export(checkpoint: Reference, file: OutFile, storage: Storage = Path("results")) -> None:
    """Write a model as a state dict of the published layout."""
    from spin_rl.algorithms.asm.files import load_asm
    from spin_rl.algorithms.published.interchange import export_asm
    from spin_rl.algorithms.published.state_dicts import write_state_dict

    model = load_asm(Path(open_store(storage).find(checkpoint).path))
    write_state_dict(export_asm(model), file)
    console.print(f"{file}: {model.sizes.heads} attention heads, which the file does not tell.", soft_wrap=True)


@app.command("import")
def import_(
    file: InFile,
    task: TaskName,
    level: Annotated[str, typer.Argument(metavar="LEVEL", help="Level of the dataset that it was pretrained on.")],
    bins: Bins = 3,
    heads: Heads = 4,
    steps: Annotated[int | None, typer.Option(help="Pretraining steps behind it, if known.", min=0)] = None,
    epochs: Annotated[int | None, typer.Option(help="Instead of --steps: epochs of the dataset.", min=0)] = None,
    seconds: Annotated[float, typer.Option(help="Seconds of pretraining behind it, if known.", min=0)] = 0.0,
    root: Root = "data",
    storage: Storage = Path("results"),
) -> None:
    """Put a model of the published layout into the store; prints the checkpoint, for 'spin-rl train spin --asm'."""
    from spin_rl.algorithms.published.imports import store_imported_asm
    from spin_rl.algorithms.published.interchange import import_asm
    from spin_rl.algorithms.published.state_dicts import read_state_dict
    from spin_rl.platform.datasets import open_dataset

    model = import_asm(read_state_dict(file), heads=heads)
    dataset = open_dataset(task, level, bins=bins, root=root)
    found = store_imported_asm(
        open_store(storage), dataset, model, origin=_digest(file), steps=steps, epochs=epochs, seconds=seconds
    )
    say(found)
    command = (
        f"spin-rl train spin {task} {level}{f' --bins {bins}' if bins != 3 else ''} --asm {found.key}/{found.step}"
    )
    console.print(f"To train a policy on it: [bold]{command}[/]", soft_wrap=True)


app.command()(asm_upkeep.verify)
app.command()(asm_upkeep.gc)


@policy_app.command("export")
def export_policy(
    run: Annotated[str, typer.Argument(help="A training by name with one trial, a trial (NAME/ID), or a checkpoint.")],
    file: OutFile,
    storage: Storage = Path("results"),
) -> None:
    """Write a policy of spin, spin-cached, finetune or saint as a state dict of the published layout."""
    from spin_rl.algorithms.published import interchange
    from spin_rl.algorithms.published.state_dicts import write_state_dict
    from spin_rl.algorithms.training.checkpoints import load_policy
    from spin_rl.errors import UserError
    from spin_rl.sweeps.running.trained_policies import find_policies

    trials = find_policies(run, storage.absolute())
    if len(trials) > 1:
        raise UserError(
            f"'{run}' holds {len(trials)} policies: name one of them, such as {run}/{trials[0].label.split()[0]}."
        )
    write_state_dict(interchange.export_policy(load_policy(trials[0].checkpoint)), file)
    console.print(f"{file}: {trials[0].label}", soft_wrap=True)


@policy_app.command("import")
def import_policy(
    file: InFile,
    task: TaskName,
    bins: Bins = 3,
    heads: Heads = 4,
    algorithm: Annotated[str, typer.Option(help="How it was trained: spin or saint.")] = "spin",
    storage: Storage = Path("results"),
) -> None:
    """Make a checkpoint of a policy in the published layout; prints its folder, for 'spin-rl evaluate'."""
    from spin_rl.algorithms.published import interchange
    from spin_rl.algorithms.published.imports import write_imported_policy
    from spin_rl.algorithms.published.state_dicts import read_state_dict
    from spin_rl.envs import get_task
    from spin_rl.errors import unknown_name

    if algorithm not in ("spin", "saint"):
        raise unknown_name("algorithm", algorithm, ("spin", "saint"))
    policy, shape = interchange.import_policy(read_state_dict(file), heads=heads)
    origin = _digest(file)
    found = get_task(task, bins)
    folder = storage.absolute() / "policies" / found.key / origin[:16]
    write_imported_policy(folder, found, policy, shape, algorithm=algorithm, origin=origin)
    console.print(f"To evaluate it: [bold]spin-rl evaluate {folder}[/]", soft_wrap=True)


def open_store(storage: Path) -> "ASMStore":
    """The store of a storage."""
    from spin_rl.platform.asm_store.store import ASMStore, asm_root

    return ASMStore(asm_root(storage.absolute()))


def say(checkpoint: "ASMCheckpoint") -> None:
    """Print what a checkpoint predicts, and where it lies."""
    console.print(
        f"step {checkpoint.step}: held-out loss {checkpoint.validation_loss:.3f}, accuracy "
        f"{checkpoint.validation_accuracy:.1%}; fully masked {checkpoint.full_loss:.3f}, "
        f"{checkpoint.full_accuracy:.1%}",
        soft_wrap=True,
    )
    console.print(checkpoint.path, soft_wrap=True)


def objective_of(identity: dict[str, Any]) -> str:
    """What a model was pretrained with, in words."""
    return "imported" if "imported" in identity else str(identity.get("objective", "mam"))


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


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
