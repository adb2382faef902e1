"""``spin-rl data``: collect, inspect and verify datasets."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from spin_rl.commands.data_display import collect_with_progress, describe, open_with_progress
from spin_rl.commands.display import console, progress_bar, wide_table
from spin_rl.commands.options import Bins, DataRootOrDefault, LevelName, Policies, Storage, TaskName, Version
from spin_rl.envs import get_task, tasks
from spin_rl.envs.behaviour.library import list_cards
from spin_rl.platform.datasets import default_root, find_metadata, list_datasets
from spin_rl.platform.datasets.inspect import action_counts, dependence, distinct_episodes
from spin_rl.platform.datasets.levels import LEVELS
from spin_rl.platform.datasets.picture import draw
from spin_rl.platform.datasets.reader import verify_dataset
from spin_rl.platform.datasets.store import DatasetRoot


def list_(root: DataRootOrDefault = None, policies: Policies = None) -> None:
    """List the datasets that exist and those that can be made."""
    there = list_datasets(root)
    table = wide_table("dataset", "transitions", "return", "seed", title=root or default_root())
    for metadata in there:
        returns = f"{metadata.returns.mean:.1f} ± {metadata.returns.std:.1f}"
        table.add_row(metadata.key, f"{metadata.transitions:,}", returns, str(metadata.seed))
    console.print(table if there else f"No datasets in {root or default_root()}.")

    trained = {(card.task, card.bins, card.level): card for card in list_cards(policies)}
    table = wide_table(
        "task",
        "bins",
        "levels that can be made",
        "behaviour policies",
        title="To make one: spin-rl data make TASK LEVEL",
    )
    for (name, bins), task in tasks().items():
        if task.scripted:
            table.add_row(name, str(bins), ", ".join(LEVELS), "scripted")
            continue
        mine = {"random"} | {level for task, its_bins, level in trained if (task, its_bins) == (name, bins)}
        levels = [level for level, behaviours in LEVELS.items() if mine.issuperset(behaviours)]
        cards = [trained[name, bins, level] for level in sorted(mine - {"random"})]
        said = ", ".join(f"{card.label} {card.return_mean:.0f} ± {card.return_std:.0f}" for card in cards)
        table.add_row(name, str(bins), ", ".join(levels), said)
    console.print(table)


def make(
    task: TaskName,
    level: LevelName,
    size: Annotated[int | None, typer.Option(help="Transitions; the paper's number by default.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal bits.")] = 0,
    bins: Bins = 3,
    epsilon: Annotated[float, typer.Option(help="Probability that a sub-action is drawn uniformly.")] = 0.0,
    workers: Annotated[
        int | None, typer.Option(help="Parallel Ray tasks, one per CPU by default; 0: without Ray.")
    ] = None,
    root: DataRootOrDefault = None,
    policies: Policies = None,
) -> None:
    """Collect a dataset with behaviour policies.

    An interrupted collection resumes.
    """
    made = collect_with_progress(
        get_task(task, bins),
        level,
        size,
        seed=seed,
        root=root,
        epsilon=epsilon,
        workers=workers,
        policies=policies,
    )
    describe(made.metadata)
    for behaviour in made.metadata.behaviours:
        if behaviour.episodes > 1 and behaviour.return_std == 0:
            console.print(
                f"All {behaviour.episodes:,} episodes of {behaviour.name} return the same: task and policy are "
                "deterministic. An --epsilon, such as 0.05, varies them."
            )


def inspect(
    task: TaskName,
    level: LevelName,
    bins: Bins = 3,
    version: Version = None,
    root: DataRootOrDefault = None,
    picture: Annotated[Path | None, typer.Option(help="PNG to write; under --storage by default.")] = None,
    storage: Storage = Path("results"),
) -> None:
    """Show shapes, returns, and the distribution and dependence of actions."""
    metadata = find_metadata(task, level, bins=bins, root=root, version=version)
    describe(metadata)
    dataset = open_with_progress(metadata, root)

    counts, found = action_counts(dataset), dependence(dataset)
    episodes = metadata.episodes
    if copies := episodes - distinct_episodes(dataset):
        console.print(f"{copies:,} of its {episodes:,} episodes are the same as an earlier one, bit for bit")
    console.print(
        f"{found.distinct:,} distinct joint actions in {len(dataset):,} transitions; total correlation "
        f"{found.total_correlation:.2f} bits ({found.by_chance:.2f} bits with each sub-action shuffled by itself: the "
        "bias of the estimate with so many transitions)"
    )
    table = Table("sub-action", "choices", "share of each choice", title="Actions")
    for index, row in enumerate(counts):
        shares = row / row.sum()
        bars = "".join(_BARS[round(float(share) / float(shares.max()) * 8)] for share in shares)
        numbers = " ".join(f"{share:5.1%}" for share in shares) if len(row) <= 10 else ""
        table.add_row(str(index), str(len(row)), f"{bars}  {numbers}")
    console.print(table)
    path = picture or storage / "inspect" / f"{metadata.key.replace('/', '-')}.png"
    draw(dataset, path)
    console.print(f"Drawn in {path}")


_BARS = " ▁▂▃▄▅▆▇█"


def verify(
    task: TaskName, level: LevelName, bins: Bins = 3, version: Version = None, root: DataRootOrDefault = None
) -> None:
    """Check every value of a dataset: schema, order, ranges, digests.

    Checks this machine's memory-mapped copy, too.
    """
    metadata = find_metadata(task, level, bins=bins, root=root, version=version)
    with progress_bar() as progress:
        bar = progress.add_task(f"verifying {metadata.key}", total=metadata.rows)
        verify_dataset(metadata, DatasetRoot(root), lambda rows: progress.advance(bar, rows))
        seconds = progress.tasks[0].elapsed or 0.0
    console.print(
        f"{metadata.key} is whole: {metadata.transitions:,} transitions in {seconds:.1f} s, digest {metadata.digest}"
    )
