"""``spin-rl quickstart``, ``pretrain``, ``train`` and ``evaluate``: from data to a trained policy."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spin_rl.commands.options import (
    ASMObjective,
    Bins,
    FullyMasked,
    LevelName,
    Masking,
    MaskingRate,
    MaskingSplit,
    Precision,
    Preset,
    Root,
    Storage,
    TaskName,
)
from spin_rl.platform.common.ray_session import (
    ray_session,  # here: it makes settings that Ray reads when it is imported
)

if TYPE_CHECKING:
    from spin_rl.sweeps.planning.plan import SweepPlan

Tracking = Annotated[
    str | None,
    typer.Option(help="MLflow's store; a SQLite file in the storage by default.", envvar="MLFLOW_TRACKING_URI"),
]
Seeds = Annotated[list[int] | None, typer.Option("--seed", help="A seed; give it once for each.")]


def quickstart(
    root: Root = "data",
    storage: Storage = Path("results"),
    tracking_uri: Tracking = None,
    seed: Seeds = None,
    updates: Annotated[int | None, typer.Option(help="Policy updates of every trial.", min=1)] = None,
    asm_steps: Annotated[int | None, typer.Option(help="Pretraining steps of SPIN's models.", min=0)] = None,
    episodes: Annotated[int | None, typer.Option(help="Episodes of an evaluation.", min=1)] = None,
    size: Annotated[int | None, typer.Option(help="Transitions of the dataset.", min=1000)] = None,
    preset: Annotated[str | None, typer.Option(help="Sizes of the networks: paper, small or tiny.")] = None,
) -> None:
    """The main job on this machine: data, pretraining, SPIN and three baselines, a report.

    A second run finds what the first made; one that was killed goes on where it stood.
    """
    from spin_rl.commands.display import collect_with_progress
    from spin_rl.envs import get_task
    from spin_rl.platform.asm_store.store import asm_root
    from spin_rl.platform.datasets import open_dataset
    from spin_rl.platform.datasets.store import DatasetRoot, absolute_root
    from spin_rl.sweeps import quickstart as settings

    root, storage = absolute_root(root), storage.absolute()
    task = get_task(settings.TASK)
    given: dict[str, Any] = {
        "seeds": tuple(seed) if seed else None,
        "updates": updates,
        "asm_steps": asm_steps,
        "preset": preset,
        "episodes": episodes,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    collected = DatasetRoot(root).versions(task.name, task.bins, settings.LEVEL)
    with nullcontext() if collected else ray_session():  # one session for collecting and training, none for neither
        made = collect_with_progress(task, settings.LEVEL, size or settings.SIZE, root=root)
        dataset = open_dataset(task.name, settings.LEVEL, root=root, version=made.metadata.version)
        plan = settings.quickstart_plan(dataset, root, asm_root(storage), **changes)
        run_and_report(plan, storage, tracking_uri)


def train(
    algorithm: Annotated[
        str,
        typer.Argument(help="spin, spin-cached, spin-distill, finetune, saint, factored or autoregressive."),
    ],
    task: TaskName,
    level: LevelName,
    objective: Annotated[str, typer.Option(help="The offline objective: iql, awac or bcq.")] = "iql",
    bins: Bins = 3,
    preset: Preset = "small",
    seed: Seeds = None,
    updates: Annotated[int, typer.Option(help="Policy updates.", min=1)] = 10_000,
    evaluate_every: Annotated[
        int, typer.Option(help="Updates between evaluations; the last one comes at the end.", min=1)
    ] = 1000,
    episodes: Annotated[int, typer.Option(help="Episodes of an evaluation.", min=1)] = 10,
    asm_steps: Annotated[int, typer.Option(help="Pretraining steps, for methods that use a model.", min=0)] = 5000,
    asm_objective: ASMObjective = "mam",
    masking: Masking = None,
    masking_rate: MaskingRate = 0.15,
    masking_split: MaskingSplit = (0.8, 0.1),
    fully_masked: FullyMasked = 0.2,
    precision: Precision = None,
    asm: Annotated[
        str | None, typer.Option(help="A stored model to start from, instead of one pretrained with these settings.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other setting, such as expectile=0.7; repeatable."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; made from its settings by default.")] = None,
    version: Annotated[int | None, typer.Option(help="Version of the dataset; the newest by default.", min=1)] = None,
    root: Root = "data",
    storage: Storage = Path("results"),
    tracking_uri: Tracking = None,
) -> None:
    """Train a policy offline, once for each seed; pretrains what it needs. The same command again goes on."""
    from spin_rl.algorithms.settings import check_trial, parse_settings
    from spin_rl.platform.asm_store.store import ASMStore, asm_root
    from spin_rl.platform.datasets.store import absolute_root
    from spin_rl.sweeps.planning.models import asm_config, masking_of
    from spin_rl.sweeps.planning.training import training_plan

    given = parse_settings(settings or ())
    if asm and Path(asm).exists():
        asm = str(Path(asm).absolute())  # workers have directories of their own
    check_trial({"algorithm": algorithm, "objective": objective, "preset": preset, "asm": asm, **given})
    root, storage = absolute_root(root), storage.absolute()
    mask, randomise = masking_split
    shares = {"rate": masking_rate, "mask": mask, "randomise": randomise, "fully_masked": fully_masked}
    options: dict[str, Any] = {"objective": asm_objective, "precision": precision}
    options["masking"] = masking_of(preset, masking, **shares)
    plan = training_plan(
        name=name or algorithm,
        description=f"{algorithm} with {objective} on {task} {level}.",
        algorithms=(algorithm,),
        objective=objective,
        task=task,
        level=level,
        bins=bins,
        version=version,
        root=root,
        asm_root=asm_root(storage),
        pretraining={number: asm_config(preset, number, **options) for number in seed or [0]},
        asm_steps=asm_steps,
        preset=preset,
        updates=updates,
        evaluate_every=evaluate_every,
        episodes=episodes,
        checkpoint=ASMStore(asm_root(storage)).find(asm) if asm else None,
        settings=given,
    )
    if name is None:
        plan = plan.named_by_content(f"{algorithm}-{task}-{level}")
    run_and_report(plan, storage, tracking_uri)


def evaluate(
    run: Annotated[str, typer.Argument(help="A sweep or training by name, one of its trials (NAME/ID), or a folder.")],
    episodes: Annotated[int, typer.Option(help="Whole episodes.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the episodes.", min=0)] = 0,
    greedy: Annotated[
        bool | None,
        typer.Option(
            "--greedy/--sampled",
            help="Take the best actions or sample them; by default what the paper did with the objective.",
        ),
    ] = None,
    storage: Storage = Path("results"),
) -> None:
    """Evaluate trained policies from their last checkpoints."""
    import torch
    from rich.console import Console
    from rich.table import Table

    from spin_rl.algorithms.evaluation.batch_policy import ActingPolicy
    from spin_rl.algorithms.training.checkpoints import load_objective
    from spin_rl.envs import get_task
    from spin_rl.platform.evaluation.episodes import evaluate as run_episodes
    from spin_rl.sweeps.running.trained_policies import find_policies

    console = Console()
    table = Table("trial", "updates", "return", "normalised", title=f"{episodes} episodes, seed {seed}")
    for trial in console_track(find_policies(run, storage.absolute()), console):
        task = get_task(trial.task, trial.bins)
        objective = load_objective(trial.checkpoint)
        sample = objective.sampled if greedy is None else not greedy
        policy = ActingPolicy(objective, torch.device("cpu"), sample=sample)
        result = run_episodes(task, policy, episodes=episodes, seed=seed)
        table.add_row(
            trial.label,
            f"{trial.updates:,}",
            f"{result.return_mean:.1f} ± {result.return_std:.1f}",
            f"{result.normalized_score:.1f}",
        )
    console.print(table)


def console_track(items: list[Any], console: Any) -> Any:
    """A progress bar over ``items`` that leaves nothing behind."""
    from rich.progress import track

    return track(items, "evaluating", console=console, transient=True)


def run_and_report(plan: "SweepPlan", storage: Path, tracking_uri: str | None, **options: Any) -> None:
    """Run a plan, or go on with it, and show its report; a plan of which all is done starts no Ray.

    Args:
        plan: what to run.
        storage: where results lie.
        tracking_uri: MLflow's store; the storage's own by default.
        **options: of `run_plan`.
    """
    from rich.console import Console
    from rich.markup import escape

    from spin_rl.commands.report import analysis_of
    from spin_rl.platform.publishing.report import log_report
    from spin_rl.platform.reports.report import make_report, print_report
    from spin_rl.platform.results.files import read_sweep
    from spin_rl.platform.tracking.store import default_tracking_uri
    from spin_rl.sweeps.run import run_plan
    from spin_rl.sweeps.running.completion import is_complete
    from spin_rl.sweeps.running.opening import open_sweep

    uri = tracking_uri or default_tracking_uri(storage)
    folder = open_sweep(plan, storage)
    if not is_complete(folder, plan):
        with ray_session():
            run_plan(plan, storage, tracking_uri=uri, **options)
    console = Console()
    report = make_report(folder, analysis_of(folder, plan.sweep or None))
    print_report(report, console)
    log_report(report)
    console.print(f"The runs in MLflow: [bold]spin-rl ui --storage {storage}[/]", soft_wrap=True)
    if not is_complete(folder, plan):
        # Tune ends quietly after Ctrl-C and after the last try of a trial that fails
        failed = read_sweep(folder).trials.query("state == 'failed'")
        if len(failed):
            cause = str(failed["error"].iloc[0]).strip().splitlines()[-1]
            console.print(f"[red]{len(failed)} trials failed[/], the first of: {escape(cause)}", soft_wrap=True)
        console.print("[yellow]Not every trial is finished; the same command goes on where this one stood.[/]")
        raise typer.Exit(1)
