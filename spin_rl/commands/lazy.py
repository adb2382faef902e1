"""Groups of commands of which only names and help lines are loaded until one of them is called (click's lazy group)."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


class LazyCommand(TyperCommand):
    """Stands for a command until it is called, and shows its help line in lists and completions.

    Args:
        target: ``module:function`` below ``spin_rl.commands``.
        line: the first line of the function's docstring.
        **context_settings: the command's settings of parsing.
    """

    def __init__(self, target: str, line: str, **context_settings: Any) -> None:
        super().__init__(target, help=line, rich_markup_mode=None)
        self.target, self.line, self._settings = target, line, context_settings

    def load(self) -> TyperCommand:
        """The command itself; imports its module."""
        module, _, function = self.target.partition(":")
        app = typer.Typer(rich_markup_mode=None, add_completion=False)
        app.command(context_settings=self._settings)(getattr(import_module(f"spin_rl.commands.{module}"), function))
        command = typer.main.get_command(app)
        assert isinstance(command, TyperCommand)
        return command

    def get_short_help_str(self, limit: int = 45) -> str:  # noqa: ARG002  # the line is wrapped, never cut
        return self.line


class LazyGroup(TyperGroup):
    """A group that loads a command when it is called. Lists, completions and suggestions of names load none."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, LazyCommand) else command, rest

    def get_short_help_str(self, limit: int = 45) -> str:  # noqa: ARG002
        return self.help or ""


def group(help_: str, commands: Mapping[str, LazyCommand]) -> LazyGroup:
    """A group of commands by name; without arguments it shows its help."""
    return LazyGroup(help=help_, commands=dict(commands), no_args_is_help=True, rich_markup_mode=None)
