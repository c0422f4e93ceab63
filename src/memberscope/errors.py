"""What can go wrong by a user's hand, and the exit code that a script ends with."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend: one line that names the parameter, the value and what is allowed.

    Scripts print the line on stderr and exit with `exit_code`; the traceback shows only with ``--verbose``.
    """

    exit_code = 2


class MissingLibrary(UserError):
    """A library that is needed for what the user asks is not installed.

    Attributes:
        modules: what is missing, by the names under which it is imported.
    """

    def __init__(self, line: str, *, modules: tuple[str, ...]) -> None:
        """With the line for the user."""
        super().__init__(line)
        self.modules = modules


class Interrupted(Exception):
    """The user, or a supervisor, asked the run to stop; what was finished is saved."""

    exit_code = 130


class GateError(Exception):
    """The gate did not pass: the run ends FAILED with this reason, after all that was computed is kept and shown."""

    exit_code = 3


class GateTripped(GateError):
    """A figure is above its limit."""


class GateUndecided(GateError):
    """The records are too few to tell; never a pass."""

    exit_code = 4


def nearest(name: str, known: Iterable[str], *, most: int = 3) -> str:
    """Names in `known` that resemble `name`, as a phrase for an error line: ``"; nearest: conv"``, or ``""``."""
    close = difflib.get_close_matches(name.lower(), sorted(known), n=most, cutoff=0.5)
    return f"; nearest: {', '.join(close)}" if close else ""
