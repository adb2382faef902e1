"""The command ``spin-rl``: the names of all commands and a line on each.

A command's module is imported when the command is called, so that ``--help``, completion and a mistyped name answer at
once. The lines are the first ones of the functions' docstrings; a test compares them.
"""

import os
import sys
from typing import Any

import typer

from spin_rl.commands.lazy import LazyCommand, LazyGroup, group
from spin_rl.errors import UserError

DATA = {
    "list": LazyCommand("data:list_", "List the datasets that exist and those that can be made."),
    "make": LazyCommand("data:make", "Collect a dataset with behaviour policies."),
    "inspect": LazyCommand("data:inspect", "Show shapes, returns, and the distribution and dependence of actions."),
    "verify": LazyCommand("data:verify", "Check every value of a dataset: schema, order, ranges, digests."),
    "import": LazyCommand("data_exchange:import_", "Import a dataset from another format."),
    "export": LazyCommand("data_exchange:export", "Export a dataset to another format."),
    "train-behaviour": LazyCommand(
        "data_behaviour:train_behaviour", "Train a behaviour policy online, with DecQN or SAC."
    ),
    "ship-behaviour": LazyCommand(
        "data_behaviour:ship_behaviour", "Select a medium and an expert policy from a behaviour training."
    ),
}

ASM = {
    "list": LazyCommand("asm:list_", "List the models in the store: settings, accuracy, cost."),
    "show": LazyCommand("asm:show", "Show everything that is known about one model."),
    "export": LazyCommand("asm:export", "Export a model as a state dict of the published layout."),
    "import": LazyCommand("asm:import_", "Import a model of the published layout into the store."),
    "verify": LazyCommand("asm_upkeep:verify", "Compare checkpoints with their digests; set damaged ones aside."),
    "gc": LazyCommand("asm_upkeep:gc", "Show models that no sweep uses any more; with --delete, delete them."),
}

POLICY = {
    "export": LazyCommand("policy:export", "Export a policy as a state dict of the published layout."),
    "import": LazyCommand("policy:import_", "Import a policy of the published layout as a checkpoint."),
}

PROBE = {
    "linear": LazyCommand("probe:linear", "Measure what a linear classifier reads from a frozen model's tokens."),
    "attention": LazyCommand("probe:attention", "Draw the attention of each layer and head between sub-actions."),
}

COMMANDS = {
    "quickstart": LazyCommand(
        "quickstart:quickstart", "Run the main experiment in minutes: data, pretraining, four methods, a report."
    ),
    "data": group("Datasets, and the behaviour policies they are collected with.", DATA),
    "pretrain": LazyCommand(
        "pretrain:pretrain", "Pretrain an action structure model or a clone, or find it in the store."
    ),
    "train": LazyCommand("train:train", "Train a policy offline, once per seed, on the model it needs."),
    "evaluate": LazyCommand("evaluate:evaluate", "Evaluate trained policies from their last checkpoints."),
    "sweep": LazyCommand("sweep:sweep", "Run or resume an experiment over many trials."),
    "report": LazyCommand("report:report", "Make a sweep's tables, figures and page, finished or not."),
    "ui": LazyCommand("report:ui", "Serve the runs' MLflow page on this machine until Ctrl-C."),
    "video": LazyCommand("video:video", "Film a policy, or an episode of a dataset; needs no display."),
    "submit": LazyCommand(
        "submit:submit", "Run a spin-rl command as a job of a Ray cluster.", allow_interspersed_args=False
    ),
    "doctor": LazyCommand("doctor:doctor", "Check this machine, or a cluster, and say how to fix what is wrong."),
    "asm": group("Pretrained action structure models in the store.", ASM),
    "policy": group("Trained policies: export and import.", POLICY),
    "probe": group("Probes of pretrained action structure models.", PROBE),
}


class _Root(LazyGroup):
    """The commands above; Typer passes those that were registered with it, which are none."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = dict(COMMANDS)


# Without rich's markup: its import alone would take longer than the rest of --help.
app = typer.Typer(
    cls=_Root,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"max_content_width": 120},
)


@app.callback()
def spin_rl() -> None:
    """Offline reinforcement learning in large discrete action spaces: SPIN and its baselines, on Ray."""


def main() -> None:
    """Run the command line; what a user can fix is one sentence and exit code 2."""
    try:
        app(prog_name="spin-rl")
    except UserError as error:
        print(f"spin-rl: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nspin-rl: stopped; the same command resumes where this one stopped.", file=sys.stderr)
        sys.stderr.flush()
        os._exit(130)  # Ray's threads would keep the process alive


if __name__ == "__main__":
    main()
