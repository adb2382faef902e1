"""``spin-rl data import`` and ``spin-rl data export``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from spin_rl.commands.data_display import describe, open_with_progress
from spin_rl.commands.display import console, progress_bar
from spin_rl.commands.options import Bins, DataRootOrDefault, Version, one_of
from spin_rl.errors import UserError
from spin_rl.platform.datasets import find_metadata
from spin_rl.platform.exchange import benchmark, minari, rllib, table
from spin_rl.platform.exchange.importing import import_dataset, spaces_of
from spin_rl.platform.exchange.rules import Duplicates, ImportRules
from spin_rl.platform.exchange.transitions import Source


class ImportFormat(StrEnum):
    """Where a dataset comes from."""

    benchmark = "benchmark"  # pickled lists of the factorised benchmark
    rllib = "rllib"
    minari = "minari"
    table = "table"


class ExportFormat(StrEnum):
    """Where a dataset goes to."""

    rllib = "rllib"
    minari = "minari"


def import_(
    form: Annotated[ImportFormat, typer.Argument(metavar="FORMAT", help=f"{one_of(ImportFormat)}.")],
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="File, folder, or id of a Minari dataset.")],
    task: Annotated[str, typer.Argument(metavar="TASK", help="Its task; any name for a task of your own.")],
    level: Annotated[str, typer.Argument(metavar="LEVEL", help="Level to store it as, such as medium.")],
    bins: Bins = 3,
    nvec: Annotated[
        str | None, typer.Option(help="Choices per sub-action, such as 3,2,4, for a task of your own.")
    ] = None,
    observation_size: Annotated[
        int | None, typer.Option(help="Numbers in an observation, for a task of your own.")
    ] = None,
    timeouts: Annotated[bool, typer.Option("--timeouts", help="Take its terminal flags for time limits.")] = False,
    shuffled: Annotated[
        bool, typer.Option("--shuffled", help="Its rows are in no order: import each as an episode of one step.")
    ] = False,
    duplicates: Annotated[
        Duplicates, typer.Option(help="What to do with an episode that equals an earlier one bit for bit.")
    ] = Duplicates.refuse,
    observation: Annotated[
        str, typer.Option(help="With table: columns of the observation, such as x,y,z or obs_*.")
    ] = "",
    action: Annotated[str, typer.Option(help="With table: columns of the sub-actions, likewise.")] = "",
    next_observation: Annotated[
        str, typer.Option(help="With table: columns of the next observation; the next row's observation by default.")
    ] = "",
    reward: Annotated[str, typer.Option(help="With table: its column.")] = "reward",
    episode: Annotated[str, typer.Option(help="With table: its column.")] = "episode",
    terminated: Annotated[str, typer.Option(help="With table: its column.")] = "terminated",
    root: DataRootOrDefault = None,
) -> None:
    """Import a dataset from another format.

    Pickles are read without executing anything that they name.
    """
    try:
        choices = [int(number) for number in nvec.split(",")] if nvec else None
    except ValueError as error:
        raise UserError(f"--nvec {nvec} is no list of numbers such as 3,2,4.") from error
    spaces = spaces_of(task, bins, choices, observation_size)
    place = Source(source, *spaces)
    path = Path(source)
    if form is not ImportFormat.minari and not path.exists():
        raise UserError(f"There is no file or folder {source}.")
    with progress_bar() as progress:
        bar = progress.add_task(f"importing {source}", total=None)

        def on_progress(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total)

        if form is ImportFormat.benchmark:
            batches = benchmark.read(path, place, on_progress=on_progress)
        elif form is ImportFormat.rllib:
            batches = rllib.read(path, place, on_progress=on_progress)
        elif form is ImportFormat.minari:
            batches = minari.read(source, place, on_progress=on_progress)
        else:
            columns = table.Columns(
                observation=table.named_columns(path, _patterns(observation, "--observation")),
                action=table.named_columns(path, _patterns(action, "--action")),
                next_observation=table.named_columns(path, _patterns(next_observation, "--next-observation"))
                if next_observation
                else (),
                reward=reward,
                episode=episode,
                terminated=terminated,
            )
            batches = table.read(path, place, columns=columns, on_progress=on_progress)
        made = import_dataset(
            batches,
            task=task,
            bins=bins,
            level=level,
            spaces=spaces,
            origin=source,
            root=root,
            rules=ImportRules(timeouts, shuffled, duplicates),
        )
        progress.update(bar, completed=progress.tasks[bar].total)
    console.print(f"{'Found' if made.found else 'Made'} {made.location}")
    if made.left_out:
        console.print(f"Left out {made.left_out:,} duplicate episodes.")
    describe(made.metadata)


def export(
    form: Annotated[ExportFormat, typer.Argument(metavar="FORMAT", help=f"{one_of(ExportFormat)}.")],
    task: Annotated[str, typer.Argument(metavar="TASK", help="Its task.")],
    level: Annotated[str, typer.Argument(metavar="LEVEL", help="Its level.")],
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="New folder, or id of a new Minari dataset, such as mine/medium-v0.")
    ],
    bins: Bins = 3,
    version: Version = None,
    root: DataRootOrDefault = None,
) -> None:
    """Export a dataset to another format."""
    dataset = open_with_progress(find_metadata(task, level, bins=bins, root=root, version=version), root)
    with progress_bar() as progress:
        bar = progress.add_task(f"exporting {dataset.metadata.key}", total=None)

        def on_progress(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total)

        if form is ExportFormat.minari:
            minari.write(dataset, target, on_progress=on_progress)
        else:
            folder = Path(target)
            if folder.exists() and any(folder.iterdir()):
                raise UserError(f"{target} is not empty; name a new folder.")
            folder.mkdir(parents=True, exist_ok=True)
            rllib.write(dataset, folder, on_progress=on_progress)
    console.print(f"Wrote {target}")


def _patterns(text: str, option: str) -> list[str]:
    patterns = [name.strip() for name in text.split(",") if name.strip()]
    if not patterns:
        raise UserError(f"A table needs {option}: names of columns, such as x,y,z or obs_*.")
    return patterns
