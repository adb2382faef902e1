"""Options and arguments that several commands share; importing them imports nothing heavy."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

TaskName = Annotated[str, typer.Argument(metavar="TASK", help="Task, such as cheetah-run.")]
LevelName = Annotated[str, typer.Argument(metavar="LEVEL", help="Level of the dataset, such as medium-expert.")]
Bins = Annotated[int, typer.Option(help="Choices of each action dimension.")]
Version = Annotated[int | None, typer.Option(help="Version of the dataset; the newest by default.", min=1)]
DataRoot = Annotated[
    str, typer.Option("--root", help="Datasets: a folder or any fsspec location.", envvar="SPIN_RL_DATA")
]
DataRootOrDefault = Annotated[
    str | None,
    typer.Option("--root", help="Datasets: a folder or any fsspec location; ./data by default.", envvar="SPIN_RL_DATA"),
]
Policies = Annotated[Path | None, typer.Option(help="Folder of behaviour policies; the shipped ones by default.")]
Storage = Annotated[Path, typer.Option(help="Folder of the results.", envvar="SPIN_RL_STORAGE")]
StorageOrDefault = Annotated[
    str | None, typer.Option("--storage", help="Folder of the results; ./results by default.", envvar="SPIN_RL_STORAGE")
]
TrackingURI = Annotated[
    str | None,
    typer.Option(help="MLflow's store; a SQLite file in the storage by default.", envvar="MLFLOW_TRACKING_URI"),
]
Seeds = Annotated[list[int] | None, typer.Option("--seed", help="A seed, repeatable; 0 by default.")]
Episodes = Annotated[int, typer.Option(help="Episodes of an evaluation.", min=1)]


def one_of(names: Iterable[str]) -> str:
    """Names as a help text lists them: ``a, b or c``."""
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last
