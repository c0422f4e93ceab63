"""The storage of an Optuna study: any database that Optuna reaches through SQLAlchemy, SQLite by default.

Only these storages have heartbeats, which detect a killed worker.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from memberscope.addresses import FROM_ENVIRONMENT, resolved, told
from memberscope.errors import UserError
from memberscope.installed import require
from memberscope.outages import limit, nothing
from memberscope.reading.files import reason
from memberscope.redact import redact
from memberscope.sqlite_files import make_if_absent
from memberscope.sweeps.silence import quiet
from memberscope.turns import turn

if TYPE_CHECKING:
    from optuna import Study
    from optuna.samplers import BaseSampler
    from optuna.storages import RDBStorage
    from sqlalchemy.engine import Engine

    from memberscope.sweeps.patient import PatientStorage

DATABASE = "studies.db"
SPACE = "space"  # attribute of the Optuna study that holds everything its trials consist of
FORMAT_KEY, FORMAT = "format", 1  # version of the kept trials; to be raised when a change makes older results differ
TIMEOUT_SECONDS = 5  # of the first check that a server answers
PATIENCE_SECONDS = 60  # time that a writer waits for other writers, or for a busy server that answered before
GRACE_HEARTBEATS = 3  # a trial's worker is considered dead after this many missed heartbeats
MOST_RETRIES = 3  # a trial is given up after this many of its workers died
PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306}
DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}  # the drivers that this project installs


def storage_url(storage: str, folder: Path) -> str:
    """The SQLAlchemy URL for the option `storage`, whose password it has: SQLite in `folder` if it is empty; a plain ``postgresql://`` gets
    its driver.

    Raises:
        UserError: the option names an environment variable that is not set.
    """
    if not storage:
        return f"sqlite:///{(folder / DATABASE).resolve()}"
    scheme, mark, rest = resolved("storage", storage).partition("://")
    return f"{DRIVERS.get(scheme, scheme)}{mark}{rest}"


def shown(url: str, given: str = "") -> str:
    """A storage for people and for what is kept: ``env:NAME`` if that was `given`, else its address without the password."""
    return given if given.startswith(FROM_ENVIRONMENT) else redact(url)


def open_storage(url: str, *, heartbeat: int, given: str = "", check: Callable[[], None] = nothing) -> PatientStorage:
    """The storage at a URL; its tables are created if they are missing.

    Args:
        url: see `storage_url`.
        heartbeat: seconds between two heartbeats of a trial's worker.
        given: the option's value, which errors show if it is ``env:NAME``.
        check: called while a database that stopped answering is waited for; raises `Interrupted` if the work is to stop.

    Raises:
        UserError: the storage cannot be reached, written or understood (which is found within seconds), or its driver is not installed.
    """
    import sqlalchemy
    from optuna.exceptions import StorageInternalError
    from optuna.storages import RetryHeartbeatStaleTrialCallback

    from memberscope.sweeps.patient import PatientStorage

    seconds = limit()
    _check_driver(url, given)
    _check_reachable(url, given)
    if not url.startswith("sqlite") and _keeps_mlflow(url):
        name = shown(url, given)
        raise UserError(
            f"storage={name}: MLflow keeps its runs there, and its schema versions would collide with Optuna's; allowed: a schema of its "
            f"own in that database (CREATE SCHEMA optuna, then {name}?options=-csearch_path%3Doptuna), or another one"
        )
    connect = {"timeout" if url.startswith("sqlite") else "connect_timeout": PATIENCE_SECONDS}
    with turn(shown(url)), quiet:  # if several processes start on a new storage, one creates the tables
        try:
            if path := _file(url):
                make_if_absent(path, _create)
            storage = PatientStorage(
                url,
                engine_kwargs={"connect_args": connect, "pool_pre_ping": not url.startswith("sqlite")},
                heartbeat_interval=heartbeat,
                grace_period=GRACE_HEARTBEATS * heartbeat,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=MOST_RETRIES),
            )
        except (
            sqlalchemy.exc.SQLAlchemyError, sqlite3.Error, StorageInternalError, ImportError, OSError, RuntimeError, TypeError, ValueError,
        ) as error:  # fmt: skip
            first = told(" ".join(str(error).split()), given=given, address=url)[:200]
            raise UserError(
                f"storage={shown(url, given)}: cannot be used ({first}); allowed: a database that SQLAlchemy reaches with an installed "
                "driver"
            ) from None
    if url.startswith("sqlite"):
        _serialize(storage.engine)
    storage.wait_with(f"the storage {shown(url, given)}", seconds=seconds, check=check)
    return storage


def _file(url: str) -> Path | None:
    """The file of an SQLite storage; None for other databases and those in memory."""
    from sqlalchemy.engine import make_url

    name = make_url(url).database if url.startswith(("sqlite:///", "sqlite+pysqlite:///")) else ""
    return Path(name).resolve() if name and not name.startswith((":memory:", "file:")) else None


def _create(path: Path) -> None:
    """Make Optuna's tables in a new file."""
    from optuna.storages import RDBStorage

    storage = RDBStorage(f"sqlite:///{path}")
    storage.remove_session()
    storage.engine.dispose()


def _keeps_mlflow(url: str) -> bool:
    """Whether MLflow's tables are where Optuna's would be created."""
    import sqlalchemy

    try:
        engine = sqlalchemy.create_engine(url, connect_args={"connect_timeout": TIMEOUT_SECONDS})
        try:
            return {"alembic_version", "experiments", "runs"} <= set(sqlalchemy.inspect(engine).get_table_names())
        finally:
            engine.dispose()
    except (sqlalchemy.exc.SQLAlchemyError, ImportError, ValueError):
        return False


def _serialize(engine: Engine) -> None:
    """Make every transaction of an SQLite engine take the write lock when it begins.

    Optuna reads a trial's state with SELECT ... FOR UPDATE and then sets it. SQLite has no FOR UPDATE, and Python's driver begins no
    transaction before the first write, so two workers may both read *waiting* and both claim the trial (seen with three threads: one trial
    claimed three times). SQLAlchemy's remedy for this driver is to begin transactions explicitly.
    """
    import sqlalchemy

    @sqlalchemy.event.listens_for(engine, "connect")
    def on_connect(connection: Any, record: Any) -> None:
        connection.isolation_level = None  # the driver then begins no transaction itself

    @sqlalchemy.event.listens_for(engine, "begin")
    def on_begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # earlier connections do not have these settings


def _check_reachable(url: str, given: str) -> None:
    try:
        url.encode("utf-8")
        parts = urlsplit(url)
    except ValueError as error:
        raise UserError(
            f"storage={shown(url, given)}: not an address ({told(str(error), given=given, address=url)}); allowed: an SQLAlchemy URL such "
            "as postgresql://HOST/DATABASE"
        ) from None
    scheme = parts.scheme.split("+")[0]
    if scheme == "sqlite":
        if not url.startswith(("sqlite:///", "sqlite+pysqlite:///")):
            raise UserError(f"storage={shown(url, given)}: no file; allowed: sqlite:///FILE")
        path = Path(
            url.partition(":///")[2].partition("?")[0].removeprefix("file:")
        )  # SQLAlchemy takes SQLite's own addresses, too
        folder = path.parent
        try:
            kind = "" if not path.exists() or path.is_file() else "is not a file"
        except (OSError, ValueError) as error:
            kind = told(reason(error), given=given, address=url)
        if kind and ":memory:" not in url:
            raise UserError(f"storage={shown(url, given)}: cannot be used ({kind}); allowed: sqlite:///FILE")
        if not folder.is_dir() or not os.access(folder, os.W_OK) or (path.exists() and not os.access(path, os.W_OK)):
            raise UserError(
                f"storage={shown(url, given)}: cannot be written; allowed: a file in a folder that exists and can be written"
            )
        return
    if scheme not in PORTS:
        raise UserError(
            f"storage={shown(url, given)}: unknown kind {scheme!r}; allowed: sqlite:///FILE, postgresql://HOST/DATABASE, mysql://HOST/DATABASE"
        )
    try:
        host, port = parts.hostname or "", parts.port or PORTS[scheme]
        if host:  # without a host it is a local socket, which answers at once or not at all
            with socket.create_connection((host, port), timeout=TIMEOUT_SECONDS):
                pass
    except (OSError, ValueError) as error:
        why = told(str(error), given=given, address=url)
        raise UserError(f"storage={shown(url, given)}: does not answer ({why}); allowed: a running server") from None


def _check_driver(url: str, given: str) -> None:
    if url.startswith(f"{DRIVERS['postgresql']}://"):
        require("psycopg", by=f"storage={shown(url, given)}", instead="sqlite:///FILE")


def open_study(
    storage: RDBStorage,
    name: str,
    space: Mapping[str, Any],
    *,
    directions: Sequence[Literal["minimize", "maximize"]],
    objectives: Sequence[str] = (),
    sampler: BaseSampler | None = None,
) -> Study:
    """The Optuna study of that name; it is created if it does not exist.

    Args:
        storage: see `open_storage`.
        name: the name of the Optuna study.
        space: everything that its trials consist of, as plain nested values; it is kept with the study, and compared when it is resumed.
        directions: ``maximize`` or ``minimize`` for each objective.
        objectives: the names of the objectives, for Optuna's tables and plots.
        sampler: the sampler of a search.

    Raises:
        UserError: the study of that name has another space; the message names the first difference.
    """
    import optuna

    with quiet:
        try:
            study = optuna.create_study(study_name=name, storage=storage, directions=list(directions), sampler=sampler)
        except optuna.exceptions.DuplicatedStudyError:
            study = optuna.load_study(study_name=name, storage=storage, sampler=sampler)
    text = json.dumps(space, sort_keys=True)
    kept = study.user_attrs.get(SPACE)
    written = study.user_attrs.get(FORMAT_KEY)
    if (written or 1) != FORMAT:  # studies of the first version have no format
        raise UserError(
            f"study={name}: the storage has an Optuna study of that name in format {written}, and this version has format {FORMAT}; "
            "allowed: another name or another storage"
        )
    if written is None:
        study.set_user_attr(FORMAT_KEY, FORMAT)
    if kept is None:  # the study is new, or the process that created it died between two statements
        study.set_user_attr(SPACE, text)
    elif kept != text:
        raise UserError(
            f"study={name}: the storage has an Optuna study of that name with another space: "
            f"{difference(json.loads(kept), json.loads(text))}; allowed: the same space, or another name"
        )
    if objectives and study.metric_names != list(objectives):  # the study is new, or from a version without names of objectives
        with quiet:
            study.set_metric_names(list(objectives))
    return study


def load_study(storage: RDBStorage, name: str, *, sampler: BaseSampler | None = None) -> Study:
    """An existing Optuna study."""
    import optuna

    with quiet:
        return optuna.load_study(study_name=name, storage=storage, sampler=sampler)


def difference(theirs: Any, ours: Any) -> str:
    """A phrase on the first leaf in which two nested plain values differ: ``cells.merged-2.recipe.epochs is 40 there and 20 here``."""
    left, right = dict(_leaves(theirs)), dict(_leaves(ours))
    for key in [*right, *left]:
        if left.get(key) != right.get(key):
            there, here = (str(side[key]) if key in side else "missing" for side in (left, right))
            return f"{key} is {there} there and {here} here"
    return "nothing differs"


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    items: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, list):
        items = [(str(number), item) for number, item in enumerate(value)]
    if not items:
        yield prefix, value
    for key, item in items:
        yield from _leaves(item, f"{prefix}.{key}" if prefix else key)
