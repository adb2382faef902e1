"""``spin-rl data``: make, look at and check datasets; train the policies that they are collected with."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from spin_rl.platform.commands import data_exchange

if TYPE_CHECKING:
    from spin_rl.envs import Task
    from spin_rl.platform.datasets import DatasetMetadata, OfflineDataset
    from spin_rl.platform.datasets.collect import MadeDataset

app = typer.Typer(no_args_is_help=True, help="Datasets, and the behaviour policies that they are collected with.")
app.command("import")(data_exchange.import_)
app.command()(data_exchange.export)
console = Console()

TaskName = Annotated[str, typer.Argument(metavar="TASK", help="Task, such as cheetah-run.")]
LevelName = Annotated[str, typer.Argument(metavar="LEVEL", help="Level, such as medium-expert.")]
Bins = Annotated[int, typer.Option(help="Choices per action dimension.")]
RootPath = Annotated[
    str | None,
    typer.Option("--root", help="Where datasets lie: a folder or any fsspec location.", envvar="SPIN_RL_DATA"),
]
Version = Annotated[int | None, typer.Option(help="Version of the dataset; the newest by default.")]
Policies = Annotated[Path | None, typer.Option(help="Folder of behaviour policies; the shipped ones by default.")]
Storage = Annotated[Path, typer.Option(help="Where results lie.", envvar="SPIN_RL_STORAGE")]


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


@app.command("list")
def list_(root: RootPath = None, policies: Policies = None) -> None:
    """The datasets that are there, and those that could be made."""
    from spin_rl.envs import tasks
    from spin_rl.envs.behaviour.library import list_cards
    from spin_rl.platform.datasets import default_root, list_datasets
    from spin_rl.platform.datasets.levels import LEVELS

    there = list_datasets(root)
    table = wide_table("dataset", "transitions", "return", "seed", title=root or default_root())
    for metadata in there:
        returns = f"{metadata.returns.mean:.1f} ± {metadata.returns.std:.1f}"
        table.add_row(metadata.key, f"{metadata.transitions:,}", returns, str(metadata.seed))
    console.print(table if there else f"No datasets in {root or default_root()}.")

    trained = {(card.task, card.bins, card.level): card for card in list_cards(policies)}
    table = wide_table(
        "task", "bins", "levels that can be made", "behaviour policies", title="To make: spin-rl data make"
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


@app.command()
def table(
    page: Annotated[Path, typer.Option("--write", help="Page to bring up to date.")] = Path("docs/datasets.md"),
    root: RootPath = None,
    policies: Policies = None,
) -> None:
    """Write the tables of policies and of datasets into a page; datasets that are not here keep their rows."""
    from spin_rl.envs import UserError
    from spin_rl.platform import dataset_table
    from spin_rl.platform.datasets import list_datasets

    if not page.is_file():
        raise UserError(f"There is no page {page}; name one with --write.")
    text = page.read_text()
    datasets = dataset_table.datasets_table(list_datasets(root), text)
    for name, content in {
        dataset_table.POLICIES: dataset_table.policies_table(policies),
        dataset_table.DATASETS: datasets,
    }.items():
        text = dataset_table.with_table(text, name, content)
    page.write_text(text)
    console.print(f"Wrote {page}")


@app.command()
def make(
    task: TaskName,
    level: LevelName,
    size: Annotated[int | None, typer.Option(help="Transitions; the paper's number by default.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bits.")] = 0,
    bins: Bins = 3,
    epsilon: Annotated[float, typer.Option(help="Probability that a sub-action is drawn uniformly.")] = 0.0,
    workers: Annotated[int | None, typer.Option(help="Ray tasks side by side (one per CPU); 0: without Ray.")] = None,
    root: RootPath = None,
    policies: Policies = None,
) -> None:
    """Collect a dataset with behaviour policies. What was collected before a kill is kept."""
    from spin_rl.envs import get_task
    from spin_rl.platform.datasets.levels import SIZES, check_level

    problem = get_task(task, bins)
    check_level(level)
    made = collect_with_progress(
        problem,
        level,
        SIZES[level] if size is None else size,
        seed=seed,
        root=root,
        epsilon=epsilon,
        workers=workers,
        policies=policies,
    )
    describe(made.metadata)


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


@app.command()
def inspect(
    task: TaskName,
    level: LevelName,
    bins: Bins = 3,
    version: Version = None,
    root: RootPath = None,
    picture: Annotated[Path | None, typer.Option(help="PNG to draw; under --storage by default.")] = None,
    storage: Storage = Path("results"),
) -> None:
    """Shapes, returns, and how the actions are distributed and depend on each other."""
    metadata = find(task, level, bins, root, version)
    describe(metadata)
    dataset = open_with_progress(metadata, root)
    from spin_rl.platform.dataset_picture import draw
    from spin_rl.platform.datasets.inspect import action_counts, dependence

    counts, found = action_counts(dataset), dependence(dataset)
    console.print(
        f"{found.distinct:,} distinct joint actions in {len(dataset):,} transitions; total correlation "
        f"{found.total_correlation:.2f} bits ({found.by_chance:.2f} bits with each sub-action shuffled by itself: "
        "what so many transitions show of independent ones)"
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


@app.command()
def verify(task: TaskName, level: LevelName, bins: Bins = 3, version: Version = None, root: RootPath = None) -> None:
    """Read every value again and judge it: schema, order, ranges, finiteness, digests."""
    from spin_rl.platform.datasets.reader import verify_dataset
    from spin_rl.platform.datasets.store import Root

    metadata = find(task, level, bins, root, version)
    with progress_bar() as progress:
        bar = progress.add_task(f"verifying {metadata.key}", total=metadata.rows)
        verify_dataset(metadata, Root(root), lambda rows: progress.advance(bar, rows))
        seconds = progress.tasks[0].elapsed or 0.0
    console.print(
        f"{metadata.key} is whole: {metadata.transitions:,} transitions in {seconds:.1f} s, digest {metadata.digest}"
    )


@app.command()
def train_behaviour(
    task: TaskName,
    steps: Annotated[int, typer.Option(help="Environment steps, those of earlier sittings included.")] = 1_000_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bits.")] = 0,
    bins: Bins = 3,
    algorithm: Annotated[
        str | None,
        typer.Option(
            help="decqn, a value for each sub-action; sac, a critic of joint actions, for many sub-actions. decqn, or "
            "what the training has."
        ),
    ] = None,
    envs: Annotated[int | None, typer.Option(help="Environments, a multiple of --group; 8, or what it has.")] = None,
    group: Annotated[
        int | None,
        typer.Option(
            min=1, help="Environments that decide together: few for many actors; 2, or what the training has."
        ),
    ] = None,
    ahead: Annotated[
        int | None,
        typer.Option(min=0, help="Steps that they go while the learner works; 20, or what the training has."),
    ] = None,
    normalize: Annotated[
        bool | None,
        typer.Option(help="Centre and scale the observations by those so far; done, or what the training has."),
    ] = None,
    symlog: Annotated[
        bool | None,
        typer.Option(help="Of the observations, their symmetric logarithm; not, or what the training has."),
    ] = None,
    critics: Annotated[
        int | None,
        typer.Option(min=1, help="Of sac, of whose values the smallest is learnt from; 1, or what the training has."),
    ] = None,
    entropy: Annotated[
        float | None,
        typer.Option(help="Of the choices that sac draws, as a share of the largest; 0.36, or as it has."),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            help="Of sac at the start, the weight of entropy beside reward; 0.01, or as it has. Begun with a policy "
            "alone, 0.0003 changes less."
        ),
    ] = None,
    policy_from: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Environment step from which sac's policy learns, its critics alone until then: for one begun with "
            "that has none; 0, or as it has.",
        ),
    ] = None,
    episode_steps: Annotated[
        int | None,
        typer.Option(
            min=0, help="Steps after which the training starts anew; 0, the task's, or as it has. Evaluations don't."
        ),
    ] = None,
    epsilon: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Exploration of a sub-action by decqn in the end; 0.05, or as it has."),
    ] = None,
    gamma: Annotated[
        float | None, typer.Option(min=0, max=1, help="Discount of a decision; 0.99, or what the training has.")
    ] = None,
    n_step: Annotated[
        int | None,
        typer.Option(min=1, help="Decisions whose rewards a return sums before its value; 3, or as it has."),
    ] = None,
    warmup_steps: Annotated[
        int | None, typer.Option(min=1, help="Environment steps before the first update; 8000, or as it has.")
    ] = None,
    steps_per_update: Annotated[
        int | None, typer.Option(min=1, help="Environment steps for each update; 4, or what the training has.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Of an update; 256, or what the training has.")] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="0.0003, or what the training has.")] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(
            help="Begin with what another training, of as many bins or fewer, learnt: its folder, or for what acts "
            "alone a snapshot in it, or a shipped policy, such as dog-trot-10/expert. It has its network."
        ),
    ] = None,
    anneal: Annotated[
        int | None,
        typer.Option(
            min=1, help="Last steps, over which learning rate and exploration fall to a tenth. May be said later."
        ),
    ] = None,
    evaluation_rounds: Annotated[
        int | None,
        typer.Option(min=1, help="Episodes of every environment between evaluations; 2, or what the training has."),
    ] = None,
    actors: Annotated[
        int | None,
        typer.Option(min=0, help="Ray actors that step them; 0: this process. All CPUs but the learner's by default."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="Of the learner; a GPU where there is one.")] = None,
    storage: Storage = Path("results"),
) -> None:
    """Train a behaviour policy online, with DecQN or SAC. A training that is there goes on from its checkpoint.

    Its bits depend on all options but --evaluation-rounds, --actors and --storage.
    """
    from spin_rl.envs import UserError, get_task
    from spin_rl.envs.behaviour.checkpoint import sole_training
    from spin_rl.envs.behaviour.growth import start_from as begin_with
    from spin_rl.envs.behaviour.settings import ALGORITHMS, BehaviourSettings, settings_of
    from spin_rl.envs.behaviour.training import BehaviourTraining
    from spin_rl.platform.behaviour_actors import open_collector
    from spin_rl.platform.behaviour_curve import BehaviourCurve

    problem = get_task(task, bins)
    folder = storage / "behaviour" / problem.key / f"seed-{seed}"
    settings = settings_of(folder) or BehaviourSettings(seed=seed, ahead=20, normalize=True)
    named: dict[str, Any] = {
        "algorithm": algorithm,
        "envs": envs,
        "group": group,
        "ahead": ahead,
        "normalize": normalize,
        "symlog": symlog,
        "critics": critics,
        "entropy": entropy,
        "temperature": temperature,
        "policy_from": policy_from,
        "epsilon_final": epsilon,
        "gamma": gamma,
        "n_step": n_step,
        "episode_steps": episode_steps,
        "batch_size": batch_size,
        "warmup_steps": warmup_steps,
        "steps_per_update": steps_per_update,
        "learning_rate": learning_rate,
        "evaluation_rounds": evaluation_rounds,
    }
    settings = replace(settings, **{name: value for name, value in named.items() if value is not None})
    if anneal is not None:
        if anneal > steps:
            raise UserError(f"The last {anneal:,} of {steps:,} steps can't be annealed; --steps counts them all.")
        settings = replace(settings, anneal_from=steps - anneal, anneal_steps=anneal)
    start = None
    if start_from is not None:
        settings, start = begin_with(start_from, problem, settings)
    learner = learner_device(device)
    with sole_training(folder), open_collector(problem, settings, actors) as collector:
        trainer = BehaviourTraining(problem, settings, folder, collector=collector, device=learner, start=start)
        with (
            BehaviourCurve(storage, problem, seed, folder, ALGORITHMS[settings.algorithm]) as curve,
            progress_bar() as progress,
        ):
            bar = progress.add_task(f"{problem.key}", total=steps)
            for point in trainer.train(steps, lambda made: progress.update(bar, completed=made)):
                curve.log(point)
                returns = f"return {point.return_mean:.1f} ± {point.return_std:.1f}"
                progress.update(bar, completed=point.step, description=f"{problem.key}, {returns}")
    console.print(f"Curve and snapshots are in {folder}. Next: spin-rl data ship-behaviour {task} --bins {bins}")


def learner_device(named: str | None) -> str:
    """The device asked for, or a GPU where there is one; and one thread, as the bits depend on their number."""
    import torch

    from spin_rl.envs import UserError

    torch.set_num_threads(1)
    if named is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return str(torch.empty(0, device=named).device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"There is no device {named} here: {str(error).splitlines()[0]}") from error


@app.command()
def ship_behaviour(
    task: TaskName,
    seed: Annotated[int, typer.Option(help="Seed of the training.")] = 0,
    bins: Bins = 3,
    level: Annotated[list[str] | None, typer.Option(help="Which to ship: medium, expert.")] = None,
    episodes: Annotated[int, typer.Option(min=20, help="Episodes that a card's return is measured over.")] = 30,
    storage: Storage = Path("results"),
    policies: Policies = None,
) -> None:
    """Choose a medium and an expert policy from a training, measure them, write weights and cards."""
    import torch

    from spin_rl.envs import UserError, get_task
    from spin_rl.envs.behaviour.library import SHIPPED, ship

    torch.set_num_threads(1)
    problem = get_task(task, bins)
    levels = tuple(level or ("medium", "expert"))
    if unknown := set(levels) - {"medium", "expert"}:
        raise UserError(f"A level to ship is medium or expert, not {', '.join(sorted(unknown))}.")
    folder = storage / "behaviour" / problem.key / f"seed-{seed}"
    with console.status("measuring snapshots"):
        cards = ship(
            problem,
            folder,
            folder=policies,
            levels=levels,
            episodes=episodes,
            on_measured=lambda line: console.print(line),
        )
    table = Table("level", "step", "return", "of the expert's", "normalized", title=str(policies or SHIPPED))
    for card in cards:
        returns = f"{card.return_mean:.1f} ± {card.return_std:.1f}"
        table.add_row(card.label, f"{card.steps:,}", returns, card.share, f"{card.normalized_score:.1f}")
    console.print(table)


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
