"""MLflow's tables in an SQLite file: made whole or not at all, and unfinished ones recognized."""

from __future__ import annotations

import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from memberscope import sqlite_files
from memberscope.errors import UserError
from memberscope.mlflow_adapter.process import users_of

QUIET_SECONDS = 3.0  # nobody is making the tables if no process has the file open and it has not changed for so long
POLL_SECONDS = 0.2
TEMPORARY = "_alembic_tmp_"  # how a migration begins the names of tables that it copies others into
VERSION = "alembic_version"
OF_EVERY_STORE = {VERSION: 1, "workspaces": 1, "experiments": 1}  # rows that a store has before anybody uses it


def make_tables(path: Path) -> None:
    """Make the tables if the file is absent or empty; if it has unfinished ones and no data, set it aside and make a new one.

    Only one process of this user may do so at a time (see `turns`).

    Raises:
        UserError: the tables are unfinished and hold data, or somebody has been making them for a long time.
    """
    path = path.resolve()
    if path.exists():
        reason = _settled(path)
        if reason and _holds_data(path):
            raise UserError(
                f"store {path}: an upgrade of its tables was interrupted ({reason}), so that MLflow cannot open it; allowed: "
                "restore a copy of it from before the upgrade, or move it away so that a new one is created"
            )
        if reason:
            aside = sqlite_files.set_aside(path, "unfinished")
            print(
                f"memberscope: store {path}: an earlier start was interrupted while it was creating the tables ({reason}); it "
                f"holds no runs, so it is kept as {aside.name} and a new one is created",
                file=sys.stderr,
                flush=True,
            )
    sqlite_files.make_if_absent(path, _create)


def unfinished(path: Path) -> str:
    """Why a database's tables are not all there; empty if they are, or if there are none, or if this cannot be seen."""
    names = sqlite_files.tables(path)
    if not names:
        return ""
    for name in names:
        if name.startswith(TEMPORARY):
            return f"table {name}"
    if not _looks_like_a_store(names):
        return ""
    if VERSION not in names:
        return f"no table {VERSION}"
    try:
        with closing(sqlite_files.connect(path)) as connection:
            versions = [str(version) for (version,) in connection.execute(f"SELECT version_num FROM {VERSION}")]
    except sqlite3.Error:
        return ""
    if not versions:
        return f"table {VERSION} is empty"
    if not _holds_data(path) and versions != [(known := _versions())[0]] and set(versions) <= set(known):
        return f"version {versions[0]} instead of {known[0]}"  # between two migrations, or an unused store of an older MLflow
    return ""


def _looks_like_a_store(names: list[str]) -> bool:
    return "experiments" in names or VERSION in names


def _settled(path: Path) -> str:
    """Why the tables are unfinished, once nobody is making them any more; empty if they are finished."""
    deadline = time.monotonic() + sqlite_files.PATIENCE_SECONDS
    while reason := unfinished(path):
        users = users_of(path)
        if not users and time.time() - path.stat().st_mtime > QUIET_SECONDS:
            return reason
        if time.monotonic() > deadline:
            raise UserError(
                f"store {path}: its tables are unfinished ({reason}) and in use by process {', '.join(map(str, users)) or 'unknown'}; "
                "allowed: wait for that process to finish, or end it"
            )
        time.sleep(POLL_SECONDS)
    return ""


def _holds_data(path: Path) -> bool:
    """Whether any table has more rows than those of a store that nobody has used; yes if this cannot be seen."""
    try:
        with closing(sqlite_files.connect(path)) as connection:
            for name in sqlite_files.tables(path) or ():
                allowed = OF_EVERY_STORE.get(name.removeprefix(TEMPORARY), 0)
                quoted = '"' + name.replace('"', '""') + '"'
                if connection.execute(f"SELECT 1 FROM {quoted} LIMIT 1 OFFSET {allowed}").fetchone():
                    return True
    except sqlite3.Error:
        return True
    return False


def _versions() -> list[str]:
    """The versions of the tables that this MLflow knows, the newest first."""
    import mlflow
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    return [script.revision for script in scripts.walk_revisions()]


def _create(path: Path) -> None:
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    make: Any = SqlAlchemyStore  # untyped
    make(f"sqlite:///{path}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH).engine.dispose()
