"""Errors that a user can cause, and the exit code with which a script ends."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from memberscope.redact import redact


class UserError(Exception):
    """A mistake that the user can correct: one line that names the parameter, the value and what is allowed.

    Scripts print the line on stderr and exit with `exit_code`; the traceback shows only with ``--verbose``. Passwords in the line are
    masked.
    """

    exit_code = 2

    def __init__(self, *line: object) -> None:
        """Create the error with its line."""
        super().__init__(*(redact(part) if isinstance(part, str) else part for part in line))


class MissingLibrary(UserError):
    """A library that the user's request needs is not installed.

    Attributes:
        modules: the missing modules, by the names under which they are imported.
    """

    def __init__(self, line: str, *, modules: tuple[str, ...]) -> None:
        """Create the error with the line for the user."""
        super().__init__(line)
        self.modules = modules


class Interrupted(Exception):
    """The user, or a supervisor, asked the run to stop; what was finished is saved."""

    exit_code = 130


class GateError(Exception):
    """The gate did not pass: the run ends FAILED with this reason, after all results are stored and shown."""

    exit_code = 3


class GateTripped(GateError):
    """A metric is above its limit."""


class GateUndecided(GateError):
    """There are too few records to decide; this never counts as a pass."""

    exit_code = 4


def nearest(name: str, known: Iterable[str], *, most: int = 3) -> str:
    """Names in `known` that resemble `name`, as a phrase for an error line: ``"; nearest: conv"``, or ``""``."""
    close = difflib.get_close_matches(name.lower(), sorted(known), n=most, cutoff=0.5)
    return f"; nearest: {', '.join(close)}" if close else ""
