"""Errors that a user can cause, and the exit code with which a script ends."""

from __future__ import annotations

import difflib
import errno
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from memberscope.redact import redact

MOST_LINE = 2_000  # characters of an error's line; what a user gave may be longer, and is cut in the middle
_BREAKS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
OF_THE_MACHINE = {
    errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE,
}  # fmt: skip
"""Faults of disks, permissions and limits, which no program can mend: full, read-only, not allowed, too many open files."""


class UserError(Exception):
    """A mistake that the user can correct: one line that names the parameter, the value and what is allowed.

    Scripts print the line on stderr and exit with `exit_code`; the traceback shows only with ``--verbose``. Passwords in the line are
    masked, line breaks and other control characters become spaces, and of a line of more than `MOST_LINE` characters the middle is cut.
    """

    exit_code = 2

    def __init__(self, *line: object) -> None:
        """Create the error with its line."""
        super().__init__(*(one_line(part) if isinstance(part, str) else part for part in line))


def one_line(text: str) -> str:
    """A text as one line that can be printed and stored in UTF-8, at most `MOST_LINE` characters long, with passwords masked."""
    plain = _BREAKS.sub(" ", redact(text)).encode("utf-8", "backslashreplace").decode("utf-8")
    if len(plain) <= MOST_LINE:
        return plain
    first, last = MOST_LINE // 2, MOST_LINE // 2 - 100
    return f"{plain[:first]} [{len(plain) - first - last:,} characters] {plain[-last:]}"


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
    """The user, or a supervisor, requested a stop; what was finished is saved."""

    exit_code = 130


class GateError(Exception):
    """The gate did not pass: the run ends FAILED with this reason, after all results are stored and shown."""

    exit_code = 3


class GateTripped(GateError):
    """A metric is above its limit."""


class GateUndecided(GateError):
    """There are too few records to decide; this never counts as a pass."""

    exit_code = 4


@contextmanager
def explain_machine_faults() -> Iterator[None]:
    """Turn an error of the machine's disks, permissions, limits or memory in the block into a UserError; any other stays as it is."""
    try:
        yield
    except (OSError, MemoryError) as error:
        found = of_the_machine(error)
        if found is None:
            raise
        raise found from error


def of_the_machine(error: BaseException) -> UserError | None:
    """The line for an error that is a fault of the machine (see `OF_THE_MACHINE`) or a lack of memory; None for any other error."""
    if isinstance(error, MemoryError):
        return UserError(
            f"memory: not enough on this machine ({str(error) or 'none is left'}); allowed: fewer records, or a larger machine"
        )
    if not isinstance(error, OSError) or error.errno not in OF_THE_MACHINE:
        return None
    place = f"{error.filename}: " if error.filename else ""
    return UserError(
        f"{place}cannot be used ({error.strerror}); allowed: a disk with free space, and folders that may be written"
    )


def nearest(name: str, known: Iterable[str], *, most: int = 3) -> str:
    """Names in `known` that resemble `name`, as a phrase for an error line: ``"; nearest: conv"``, or ``""``."""
    close = difflib.get_close_matches(name.lower(), sorted(known), n=most, cutoff=0.5)
    return f"; nearest: {', '.join(close)}" if close else ""
