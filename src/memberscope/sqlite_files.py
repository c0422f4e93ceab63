"""New SQLite databases, made beside their place and moved into it whole.

A library makes the tables of a database in many transactions. If the process is interrupted between two of them, it leaves a file that no
later start may be able to open. So the tables are made in a hidden file of the same folder, which gets its name in one step.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

PATIENCE_SECONDS = 60.0
COMPANIONS = ("-journal", "-wal", "-shm")  # what SQLite keeps beside a database, under names that begin with the database's


def make_if_absent(path: Path, create: Callable[[Path], None]) -> None:
    """Make the database if there is none, or an empty file; only one process of this user may do so at a time (see `turns`).

    If another process has put a database there in the meantime, that one stays and ours is dropped.

    Args:
        path: of the database.
        create: makes the tables in a new file at the path that it is given, and closes every connection to it.
    """
    path = path.resolve()
    empty = path.exists()
    if empty and tables(path) != []:
        return
    beside = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getuid() if hasattr(os, 'getuid') else os.getpid()}.new")
    _remove(beside)  # of an interrupted start
    if not empty:
        _rename(
            path, _free_name(path, "left-over"), COMPANIONS
        )  # a journal of a database that is gone would be applied to the new one
    try:
        create(beside)
        if empty:
            _replace_empty(beside, path)
        else:
            _move(beside, path)
    finally:
        _remove(beside)


def connect(path: Path) -> sqlite3.Connection:
    """A connection to a database that exists, which waits for other writers and does not begin a transaction on its own."""
    uri = f"{path.resolve().as_uri()}?mode=rw"
    return sqlite3.connect(uri, uri=True, timeout=PATIENCE_SECONDS, isolation_level=None)


def tables(path: Path) -> list[str] | None:
    """The names of a database's tables, once a half-written transaction is undone; None if it cannot be read now."""
    try:
        with closing(connect(path)) as connection:
            return [str(name) for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    except sqlite3.Error:
        return None


def set_aside(path: Path, word: str) -> Path:
    """Rename a database, and what SQLite keeps beside it; returns the new path, which has the word and the time in its name."""
    aside = _free_name(path, word)
    _rename(path, aside, ("", *COMPANIONS))
    return aside


def _free_name(path: Path, word: str) -> Path:
    base = f"{path.name}.{word}-{time.strftime('%Y%m%d-%H%M%S')}"
    names = (path.with_name(f"{base}-{number}" if number else base) for number in range(1000))
    return next(name for name in names if not any(Path(f"{name}{suffix}").exists() for suffix in ("", *COMPANIONS)))


def _rename(path: Path, new: Path, suffixes: Sequence[str]) -> None:
    for suffix in suffixes:
        with suppress(FileNotFoundError):
            Path(f"{path}{suffix}").rename(f"{new}{suffix}")


def _replace_empty(beside: Path, path: Path) -> None:
    """Put the new database in the place of an empty file, unless somebody writes into that now, or has."""
    with closing(connect(path)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        if connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None:
            beside.replace(path)


def _move(beside: Path, path: Path) -> None:
    """Give the new database its name, unless another has it: unlike a rename, a link never overwrites."""
    try:
        os.link(beside, path)
    except FileExistsError:
        return
    except OSError:  # a file system without links
        if not path.exists():
            beside.rename(path)


def _remove(path: Path) -> None:
    for suffix in ("", *COMPANIONS):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
