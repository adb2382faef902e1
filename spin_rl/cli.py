"""The command ``spin-rl``: all commands in one place. The door: it imports everything, nothing imports it."""

import os
import sys

import typer

from spin_rl.commands import asm, data, doctor, pretrain, probe, report, run, submit, sweep, video
from spin_rl.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Offline reinforcement learning in large discrete action spaces: SPIN and its baselines, on Ray.",
)
app.command()(run.quickstart)
app.add_typer(data.app, name="data")
app.command()(pretrain.pretrain)
app.add_typer(asm.app, name="asm")
app.add_typer(asm.policy_app, name="policy")
app.add_typer(probe.app, name="probe")
app.command()(run.train)
app.command()(run.evaluate)
app.command()(sweep.sweep)
app.command(context_settings={"allow_interspersed_args": False})(submit.submit)
app.command()(video.video)
app.command()(report.report)
app.command()(report.ui)
app.command()(doctor.doctor)


def main() -> None:
    """Run the command line; what a user can mend is one sentence and exit code 2."""
    try:
        app()
    except UserError as error:
        print(f"spin-rl: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nspin-rl: stopped; the same command goes on where this one stood.", file=sys.stderr)
        sys.stderr.flush()
        os._exit(130)  # Ray's threads would hold the process back


if __name__ == "__main__":
    main()
