"""Errors that a user can cause: one sentence that names the thing and the fix."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """A request that cannot be met; the command line prints the message and exits with code 2."""


def unknown_name(kind: str, name: object, choices: Iterable[object]) -> UserError:
    """Error for a name that is not in ``choices``: suggests the nearest one and lists all of them."""
    names = [str(choice) for choice in choices]
    near = get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]}?" if near else ""
    return UserError(f"There is no {kind} '{name}'.{hint} There is: {', '.join(names)}.")
