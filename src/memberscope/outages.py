"""A server that stops answering: how long to wait for it, what to say about it, and which errors mean an outage."""

from __future__ import annotations

import math
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator

from memberscope.errors import UserError
from memberscope.redact import redact

VARIABLE = "MEMBERSCOPE_OUTAGE_LIMIT"
LIMIT_SECONDS = 300.0
POLL_SECONDS = 0.5
SQLITE_PASSING = (
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
)  # fmt: skip
SQLITE_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)


class Unreachable(UserError):
    """A server has not answered for longer than the limit."""


def limit() -> float:
    """The seconds that an outage may last: ``MEMBERSCOPE_OUTAGE_LIMIT``, else 300.

    Raises:
        UserError: the variable is not a number of seconds.
    """
    given = os.environ.get(VARIABLE, "").strip()
    if not given:
        return LIMIT_SECONDS
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise UserError(f"{VARIABLE}={given}: allowed: a number of seconds, 0 or more")
    return seconds


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error, what caused it, and what it was raised in the handling of."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        waiting += [found.__context__, found.__cause__]


def is_locked(error: BaseException) -> bool:
    """Whether another process holds an SQLite database."""
    return any(isinstance(cause, sqlite3.Error) and _code(cause) in SQLITE_LOCKED for cause in causes(error))


def is_database_outage(error: BaseException) -> bool:
    """Whether a database does not answer, broke the connection, or is locked, so that the same request may succeed later.

    An SQLite database says so by its error code. A server's driver raises what SQLAlchemy calls an OperationalError or InterfaceError.
    """
    for cause in causes(error):
        if isinstance(cause, sqlite3.Error):
            return _code(cause) in SQLITE_PASSING
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
    from sqlalchemy.exc import TimeoutError as PoolTimeout

    return any(
        isinstance(cause, OperationalError | InterfaceError | PoolTimeout)
        or (isinstance(cause, DBAPIError) and cause.connection_invalidated)
        for cause in causes(error)
    )


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF  # the higher bits are details


def reason(error: BaseException) -> str:
    """The first line of the innermost error, without passwords, for a message."""
    *_, first = causes(error)
    lines = [line.strip() for line in redact(str(first)).splitlines() if line.strip()]
    return (lines[0] if lines else type(first).__name__)[:200]


def nothing() -> None:
    """Nothing to check."""


class Lookout:
    """Whether a server answers. A line on stderr says when it stops to, and another when it is back.

    Args:
        what: the server, for people: ``the tracking server http://...``.
        seconds: how long to wait during an outage.
        check: called while waiting; raises `Interrupted` if the work is to stop.

    Attributes:
        since: when the present outage began, by `time.monotonic`; None while the server answers.
        why: the error that began it.
    """

    def __init__(self, what: str, *, seconds: float, check: Callable[[], None] = nothing) -> None:
        """Begin with a server that answers."""
        self.what, self.seconds, self.check = what, seconds, check
        self.since: float | None = None
        self.why = ""

    @property
    def left(self) -> float:
        """The seconds that are left to wait in the current outage; the whole limit if there is none."""
        return self.seconds if self.since is None else self.since + self.seconds - time.monotonic()

    def is_away(self, error: BaseException) -> None:
        """Note that the server did not answer."""
        if self.since is None:
            self.since, self.why = time.monotonic(), reason(error)
            _say(
                f"{self.what} does not answer ({self.why}); the work continues, and memberscope waits for it for up to "
                f"{self.seconds:g} s"
            )

    def is_back(self) -> None:
        """Note that the server answered."""
        if self.since is not None:
            _say(f"{self.what} answers again, after {time.monotonic() - self.since:.0f} s")
            self.since = None

    def wait(self) -> bool:
        """Wait a moment during an outage; False, without waiting, once its limit is over."""
        self.check()
        if self.left <= 0:
            return False
        time.sleep(min(POLL_SECONDS, self.left))
        return True


def _say(line: str) -> None:
    print(f"memberscope: {line}", file=sys.stderr, flush=True)
