"""Datasets as the commands show them: collected and opened with a bar, described in a table."""

from typing import Any

from rich.table import Table

from spin_rl.commands.display import console, progress_bar
from spin_rl.envs import Task
from spin_rl.platform.datasets import DatasetMetadata, OfflineDataset, open_dataset
from spin_rl.platform.datasets.collect import MadeDataset, make_dataset


def collect_with_progress(task: Task, level: str, size: int | None, **settings: Any) -> MadeDataset:
    """``make_dataset`` with a bar, and a line that says where the dataset is."""
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


def open_with_progress(metadata: DatasetMetadata, root: str | None) -> OfflineDataset:
    """Open a dataset; a bar shows the verification, where this machine has not verified it yet."""
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


def describe(metadata: DatasetMetadata) -> None:
    """Print a dataset's sizes, behaviour policies, returns and digest."""
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
