"""``spin-rl probe``: what a stored action structure model knows, and what its tokens attend to."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from spin_rl.algorithms.asm.files import load_asm
from spin_rl.algorithms.asm.probes import attention_of_dataset, linear_probe, query_probe
from spin_rl.commands.asm_options import Reference, References, objective_of, open_store
from spin_rl.commands.display import console
from spin_rl.commands.options import DataRoot, Storage
from spin_rl.envs import get_task, nvec_of
from spin_rl.errors import UserError
from spin_rl.platform.asm_store.store import ASMCheckpoint
from spin_rl.platform.datasets import OfflineDataset, open_dataset
from spin_rl.platform.reports.attention import attention_figure


def linear(
    checkpoint: References,
    samples: Annotated[int, typer.Option(help="Transitions to fit the classifiers on, at most.", min=100)] = 20_000,
    queries: Annotated[
        bool, typer.Option("--queries", help="Learn queries for the probe, as the SPIN paper does, in place of masks.")
    ] = False,
    root: DataRoot = "data",
    storage: Storage = Path("results"),
) -> None:
    """Measure what a linear classifier reads from a frozen model's tokens.

    Accuracy of each sub-action and of the whole action, on held-out episodes. Sub-actions depend on each other where
    the exact tuple is right more often than it would be if they were independent given the state.
    """
    store = open_store(storage)
    summary = Table(
        "checkpoint",
        "per slot",
        "exact tuple",
        "if independent",
        "given the state",
        "seconds",
        title="Linear probe, held out",
    )
    single: Table | None = None
    for found in [store.find(reference) for reference in checkpoint]:
        identity = store.identity(found)
        dataset = _dataset_of(found, root)
        with console.status(f"probing {found.key}/{found.step}"):
            probe = (query_probe if queries else linear_probe)(
                load_asm(Path(found.path)),
                dataset,
                seed=identity["seed"],
                validation_fraction=identity["validation_fraction"],
                samples=samples,
            )
        summary.add_row(
            f"{found.key[:8]}/{found.step}",
            f"{probe.mean:.1%}",
            f"{probe.exact:.2%}",
            f"{probe.independent:.2%}",
            f"{probe.given_state:.2%}",
            f"{found.pretrain_seconds:.0f}",
        )
        derived = {"mean": probe.mean, "independent": probe.independent}
        _write(
            storage,
            found,
            "queries.json" if queries else "linear.json",
            json.dumps({**asdict(probe), **derived}, indent=2),
        )
        single = _slots(probe, _sub_action_names(found), found)
    if len(checkpoint) == 1:
        console.print(single)
    console.print(summary)


def attention(
    checkpoint: Reference,
    masked: Annotated[bool, typer.Option("--masked", help="Mask every sub-action, as in a policy's queries.")] = False,
    samples: Annotated[int, typer.Option(help="Transitions to average over.", min=1)] = 2048,
    root: DataRoot = "data",
    storage: Storage = Path("results"),
) -> None:
    """Draw the attention of each layer and head between sub-actions.

    Prints the path of the figure.
    """
    store = open_store(storage)
    found = store.find(checkpoint)
    maps = attention_of_dataset(load_asm(Path(found.path)), _dataset_of(found, root), samples=samples, masked=masked)
    how = "every sub-action masked" if masked else "every sub-action visible"
    title = f"{found.task}, {found.bins} bins: {objective_of(store.identity(found))}, step {found.step}, {how}"
    figure = attention_figure(maps.numpy(), _sub_action_names(found), title)
    path = _folder(storage, found) / ("attention-masked.png" if masked else "attention.png")
    figure.savefig(path)
    console.print(str(path), soft_wrap=True)


def _slots(probe: Any, names: list[str], found: ASMCheckpoint) -> Table:
    table = Table("sub-action", "accuracy", "commonest choice", title=f"{found.task}, {found.bins} bins")
    for name, accuracy, majority in zip(names, probe.per_slot, probe.majority, strict=True):
        table.add_row(name, f"{accuracy:.1%}", f"{majority:.1%}")
    return table


def _dataset_of(found: ASMCheckpoint, root: str) -> OfflineDataset:
    """The dataset that a model was pretrained on; UserError where it has changed since."""
    # <store>/<task>-<bins>/<level>-v<n>/<key>/step-<step>
    level, _, version = Path(found.path).parent.parent.name.rpartition("-v")
    dataset = open_dataset(found.task, level, bins=found.bins, root=root, version=int(version))
    if dataset.meta.digest != found.dataset_digest:
        raise UserError(
            f"{found.path} was pretrained on a dataset with digest {found.dataset_digest[:12]}, {dataset.meta.key} in "
            f"{root} has {dataset.meta.digest[:12]}: name the --root of the original."
        )
    return dataset


def _sub_action_names(found: ASMCheckpoint) -> list[str]:
    """The actuators' names where the problem has any, else numbers."""
    env: Any = get_task(found.task, found.bins).make()
    try:
        count = len(nvec_of(env))
        physics = getattr(env.unwrapped, "physics", None)
        names = [physics.model.id2name(index, "actuator") for index in range(count)] if physics else []
    finally:
        env.close()
    return names if all(names) and names else [str(number) for number in range(1, count + 1)]


def _folder(storage: Path, found: ASMCheckpoint) -> Path:
    folder = storage.absolute() / "probes" / f"{found.task}-{found.bins}" / f"{found.key}-{found.step}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write(storage: Path, found: ASMCheckpoint, name: str, text: str) -> None:
    (_folder(storage, found) / name).write_text(text)
