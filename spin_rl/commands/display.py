"""What the commands on datasets show: bars, tables, and what a dataset is."""

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from spin_rl.envs import Task
    from spin_rl.platform.datasets import DatasetMetadata, OfflineDataset
    from spin_rl.platform.datasets.collect import MadeDataset

console = Console()


def progress_bar() -> Progress:
    """A bar with the share done, the time and the time left."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    )


def wide_table(name: str, *columns: str, title: str) -> Table:
    """A table whose first column is never cut or broken: what is in it is to be copied."""
    table = Table(title=title)
    table.add_column(name, no_wrap=True, overflow="ignore", min_width=0)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def collect_with_progress(task: "Task", level: str, size: int, **settings: Any) -> "MadeDataset":
    """``make_dataset`` with a bar and a line that says what came of it."""
    from spin_rl.platform.datasets.collect import make_dataset

    with progress_bar() as progress:
        bar = progress.add_task(f"collecting {task.key}/{level}", total=None)
        made = make_dataset(
            task,
            level,
            size,
            on_progress=lambda done, total: progress.update(bar, completed=done, total=total),
            **settings,
        )
        progress.update(bar, visible=not made.found)
    console.print(f"{'Found' if made.found else 'Made'} {made.location}", soft_wrap=True)
    return made


def find(task: str, level: str, bins: int, root: str | None, version: int | None) -> "DatasetMetadata":
    """Metadata of the dataset that the options name."""
    from spin_rl.platform.datasets import find_metadata

    return find_metadata(task, level, bins=bins, root=root, version=version)


def open_with_progress(metadata: "DatasetMetadata", root: str | None) -> "OfflineDataset":
    """Open a dataset; a bar shows the verification, if this machine has not made it yet."""
    from spin_rl.platform.datasets import open_dataset

    with progress_bar() as progress:
        bar = progress.add_task("verifying, once on this machine", total=metadata.rows, visible=False)
        return open_dataset(
            metadata.task,
            metadata.level,
            bins=metadata.bins,
            root=root,
            version=metadata.version,
            on_rows=lambda rows: progress.update(bar, advance=rows, visible=True),
        )


def describe(metadata: "DatasetMetadata") -> None:
    """Print what a dataset is."""
    table = Table(show_header=False, title=metadata.key)
    table.add_row("transitions, episodes", f"{metadata.transitions:,}, {metadata.episodes:,}")
    table.add_row("observation size", str(metadata.observation_size))
    table.add_row("nvec", " ".join(map(str, metadata.nvec)))
    for behaviour in metadata.behaviours:
        returns = f"{behaviour.return_mean:.1f} ± {behaviour.return_std:.1f} over {behaviour.episodes:,} episodes"
        table.add_row(behaviour.name, f"{returns} ({behaviour.policy}, epsilon {behaviour.epsilon:g})")
    r = metadata.returns
    quantiles = " · ".join(f"{value:.1f}" for value in (r.minimum, r.q05, r.q25, r.median, r.q75, r.q95, r.maximum))
    table.add_row("returns: 0 5 25 50 75 95 100 %", quantiles)
    if metadata.reference_random is not None:
        table.add_row("reference: random, expert", f"{metadata.reference_random}, {metadata.reference_expert}")
    table.add_row("seed, digest", f"{metadata.seed}, {metadata.digest}")
    console.print(table)
