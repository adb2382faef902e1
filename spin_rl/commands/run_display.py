"""Models and runs as the commands show them."""

import typer
from rich.markup import escape

from spin_rl.api import ASMCheckpoint, SweepRun
from spin_rl.commands.display import console
from spin_rl.platform.reports.report import print_report


def show_checkpoint(checkpoint: ASMCheckpoint) -> None:
    """Print a pretrained model's losses, accuracies and cost, and its folder on a line by itself."""
    objective = "" if checkpoint.objective_loss is None else f"; objective's loss {checkpoint.objective_loss:.3f}"
    console.print(
        f"step {checkpoint.step}: held-out loss {checkpoint.validation_loss:.3f}, accuracy "
        f"{checkpoint.validation_accuracy:.1%}; fully masked {checkpoint.full_loss:.3f}, "
        f"{checkpoint.full_accuracy:.1%}{objective}; {checkpoint.pretrain_seconds:.0f} s",
        soft_wrap=True,
    )
    console.print(checkpoint.path, soft_wrap=True)


def show_run(run: SweepRun) -> None:
    """Print a run's report; ends with exit code 1 where not every trial is complete."""
    print_report(run.report, console)
    console.print(f"The runs in MLflow: [bold]spin-rl ui --storage {run.folder.parent}[/]", soft_wrap=True)
    if not run.complete:
        if run.failures:
            console.print(
                f"[red]{len(run.failures)} trials failed[/], the first with: {escape(run.failures[0])}", soft_wrap=True
            )
        console.print("[yellow]Not every trial is complete; the same command resumes the others.[/]")
        raise typer.Exit(1)
