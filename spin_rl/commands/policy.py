"""``spin-rl policy``: trained policies as files of the published layout."""

from pathlib import Path
from typing import Annotated

import typer

from spin_rl.algorithms.published import interchange
from spin_rl.algorithms.published.imports import write_imported_policy
from spin_rl.algorithms.published.state_dicts import read_state_dict, write_state_dict
from spin_rl.algorithms.training.checkpoints import load_policy
from spin_rl.commands.asm_options import Heads, InFile, OutFile, file_digest
from spin_rl.commands.display import console
from spin_rl.commands.options import Bins, Storage, TaskName, one_of
from spin_rl.envs import get_task
from spin_rl.errors import UserError, unknown_name
from spin_rl.sweeps.running.trained_policies import find_policies

IMPORTED = ("spin", "saint")
"""Methods whose policies the published layout can be imported as."""


def export(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A training with one trial, a trial (NAME/ID) or a checkpoint.")
    ],
    file: OutFile,
    storage: Storage = Path("results"),
) -> None:
    """Export a policy as a state dict of the published layout.

    The policy is one of spin, spin-cached, finetune or saint.
    """
    trials = find_policies(run, storage.absolute())
    if len(trials) > 1:
        raise UserError(
            f"'{run}' holds {len(trials)} policies: name one of them, such as {run}/{trials[0].label.split()[0]}."
        )
    write_state_dict(interchange.export_policy(load_policy(trials[0].checkpoint)), file)
    console.print(f"{file}: {trials[0].label}", soft_wrap=True)


def import_(
    file: InFile,
    task: TaskName,
    bins: Bins = 3,
    heads: Heads = 4,
    algorithm: Annotated[str, typer.Option(help=f"How it was trained: {one_of(IMPORTED)}.")] = "spin",
    storage: Storage = Path("results"),
) -> None:
    """Import a policy of the published layout as a checkpoint.

    Prints the checkpoint's folder, for 'spin-rl evaluate'.
    """
    if algorithm not in IMPORTED:
        raise unknown_name("algorithm", algorithm, IMPORTED)
    policy, shape = interchange.import_policy(read_state_dict(file), heads=heads)
    origin = file_digest(file)
    found = get_task(task, bins)
    folder = storage.absolute() / "policies" / found.key / origin[:16]
    write_imported_policy(folder, found, policy, shape, algorithm=algorithm, origin=origin)
    console.print(f"To evaluate it: [bold]spin-rl evaluate {folder}[/]", soft_wrap=True)
