"""A lock between processes: if several on this machine want to create the same database, one creates it and the others wait."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from memberscope.errors import UserError

PATIENCE_SECONDS = 120.0  # creating a store's tables takes seconds, on a busy machine half a minute
POLL_SECONDS = 0.05


@contextmanager
def turn(what: str, *, patience: float = PATIENCE_SECONDS) -> Iterator[None]:
    """A context that only one of this user's processes on this machine can be in at a time; `what` is the address of a database.

    It locks an empty file in the folder for temporary files; the lock is released at the end of the process at the latest. On systems
    without such locks (Windows), no process waits.

    Raises:
        UserError: another process has held the lock for `patience` seconds.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    key = hashlib.sha256(what.encode()).hexdigest()[:20]
    path = Path(tempfile.gettempdir()) / f"memberscope-{os.getuid()}-{key}.lock"
    deadline = time.monotonic() + patience
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise UserError(
                        f"store {what}: another process has been preparing it for {patience:g} s; allowed: wait for that "
                        "process to finish, or end it"
                    ) from None
                time.sleep(POLL_SECONDS)
        yield
