"""Which store, and whether it can be used: checked before any work, since MLflow retries a dead one for minutes.

Run as a program, it checks the store, creates the tables of a new one and prints nothing, or prints one line and exits with 2: ``python -m
memberscope.mlflow_adapter.store [EXPERIMENT]``. If an experiment is named, it creates that, too, unless it exists.
"""

from __future__ import annotations

import http.client
import logging
import os
import socket
import sqlite3
import ssl
import sys
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from memberscope.errors import Interrupted, UserError
from memberscope.installed import explain_missing_library
from memberscope.mlflow_adapter.tables import make_tables
from memberscope.redact import redact, split_address
from memberscope.sweeps.storage import PORTS
from memberscope.turns import turn

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

DEFAULT_STORE = "mlflow.db"
TIMEOUT_SECONDS = 5.0  # for the first check that a server answers, and for nothing else
LOOKS = 2
HEALTH = "/health"  # a path of MLflow's server; any answer will do, since proxies and hosted servers have paths of their own
ABSENT = (502, 503, 504)  # a proxy's answers when there is no server behind it

RETRIES, REQUEST_TIMEOUT = "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"
REQUEST_SECONDS = 60  # of silence, after which a request to the server counts as lost

# What MLflow reads when it is imported or asked; set before, unless the user set it.
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def prepare_environment() -> None:
    """Switch MLflow's telemetry off unless the user has decided; its own timeouts and retries stay as they are."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


@contextmanager
def failing_requests() -> Iterator[None]:
    """A block in which each of MLflow's requests to a server fails soon, and once.

    MLflow would repeat a request for minutes, also one that took effect before its answer was lost. How long a server is waited for,
    and what may be repeated, is decided in `outbox`. What others do with MLflow in this process, or in those it starts, stays as it is.
    """
    before = {name: os.environ.get(name) for name in (RETRIES, REQUEST_TIMEOUT)}
    os.environ[RETRIES] = "0"
    os.environ.setdefault(REQUEST_TIMEOUT, str(REQUEST_SECONDS))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def quiet_mlflow() -> None:
    """Silence what MLflow says on its own, such as the traceback of an error of the database that it raises as well."""
    for noisy in ("alembic", "mlflow.tracking.fluent"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def tracking_uri() -> str:
    """The store that MLflow's own variables name, else ``sqlite:///mlflow.db`` in the working directory (the project's root)."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path(DEFAULT_STORE).resolve()}"


def without_credentials(uri: str) -> str:
    """The address of a tracking server without its user and password, which are handed to MLflow in its own variables; others as they are.

    MLflow would print the address, and write it wherever it names the server.
    """
    scheme, mark, rest = uri.partition("://")
    if scheme not in ("http", "https") or not (found := split_address(scheme, rest)) or not (found[0] and found[1]):
        return uri
    user, password, rest = found
    os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(user), unquote(password)
    return f"{scheme}{mark}{rest}"


def check_store(uri: str) -> None:
    """Raise UserError, within seconds, if the store cannot be written or its server does not answer."""
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise UserError(
            f"MLFLOW_TRACKING_URI={redact(uri)}: not an address ({redact(str(error), about=[uri])}); allowed: the address of a store, or "
            "no value for a local store"
        ) from None
    if parts.scheme == "sqlite":
        _check_file(uri)
    elif (scheme := parts.scheme.split("+")[0]) in PORTS:
        try:
            if parts.hostname:  # without one it is a socket on this machine, which answers at once or not at all
                with socket.create_connection((parts.hostname, parts.port or PORTS[scheme]), timeout=TIMEOUT_SECONDS):
                    pass
        except (OSError, ValueError) as error:
            why = redact(str(error), about=[uri])
            raise UserError(
                f"MLFLOW_TRACKING_URI={redact(uri)}: the database does not answer ({why}); allowed: a running database, or no value "
                "for a local store"
            ) from None
        _check_database(uri)
    elif parts.scheme in ("http", "https"):
        for look in range(1, LOOKS + 1):
            missing = _look(uri)
            if not missing:
                return
            if look == LOOKS:
                raise UserError(
                    f"MLFLOW_TRACKING_URI={redact(uri)}: the tracking server does not answer ({redact(missing, about=[uri])}); allowed: "
                    "a running server, or no value for a local store"
                )


def _check_database(uri: str) -> None:
    """Raise UserError unless the database accepts a connection: MLflow itself would try again for two minutes before it says so."""
    import sqlalchemy

    try:
        engine = sqlalchemy.create_engine(
            uri, poolclass=sqlalchemy.pool.NullPool, connect_args={"connect_timeout": int(TIMEOUT_SECONDS)}
        )
        with engine.connect():
            pass
    except (sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        lines = [line.strip() for line in redact(str(error), about=[uri]).splitlines() if line.strip()]
        first = lines[0] if lines else type(error).__name__
        raise UserError(
            f"MLFLOW_TRACKING_URI={redact(uri)}: the database cannot be used ({first}); allowed: a running database that lets this user "
            "in, or no value for a local store"
        ) from None
    except (ImportError, TypeError):  # its driver is missing, or names its time-out otherwise: MLflow says so at once
        pass


def _look(uri: str) -> str:
    """Why the server cannot be reached; empty if it answers, whatever the answer."""
    try:
        with urllib.request.urlopen(uri.rstrip("/") + HEALTH, timeout=TIMEOUT_SECONDS):
            return ""
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.reason}" if error.code in ABSENT else ""
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLError):  # there is a server; which certificates to trust is up to MLflow
            return ""
        return str(error.reason)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return str(error)


def load_mlflow() -> None:
    """Import MLflow, which takes a second, with its telemetry off."""
    prepare_environment()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        import mlflow  # noqa: F401


def connect(uri: str, *, whole: Callable[[], AbstractContextManager[None]] = nullcontext) -> MlflowClient:
    """A client of the store; if several processes start on a new database, one creates the tables and the others wait.

    Args:
        uri: the store.
        whole: makes the context in which missing tables are created.

    Raises:
        UserError: MLflow cannot use the store.
    """
    load_mlflow()
    os.environ["MLFLOW_TRACKING_URI"] = uri  # workers inherit it
    if redact(uri) != uri:
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = (
            "true"  # MLflow would print the password with the address of a run
        )
    import mlflow
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    quiet_mlflow()
    mlflow.set_tracking_uri(uri)
    if uri.startswith(("http:", "https:")):  # the server has its tables
        return mlflow.MlflowClient()
    path = database(uri)
    try:
        with turn(str(path) if path else redact(uri)), whole():
            if path:
                make_tables(path)
            return mlflow.MlflowClient()  # creates missing tables
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise unusable(uri, error) from None


def database(uri: str) -> Path | None:
    """The file that SQLAlchemy opens for an SQLite address; None for other databases and those in memory."""
    from sqlalchemy.engine import make_url

    name = make_url(uri).database if uri.startswith(("sqlite:///", "sqlite+pysqlite:///")) else ""
    return Path(name).resolve() if name and not name.startswith((":memory:", "file:")) else None


def unusable(uri: str, error: Exception) -> UserError:
    """The error for a store that MLflow cannot use."""
    import mlflow

    first = next(iter(redact(str(error), about=[uri]).splitlines()), type(error).__name__)
    return UserError(f"store {redact(uri)}: {first}; allowed: a store that MLflow {mlflow.__version__} can use")


def experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    """The id of the experiment with that name, which is created with an explicit artifact location unless it exists.

    Raises:
        UserError: it was deleted.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        location = None
        if uri.startswith("sqlite:///"):
            location = (_file(uri).resolve().parent / "mlruns" / name).as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:  # another process may have created it in the meantime
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    check_active(found, given=f"experiment {name}")
    return str(found.experiment_id)


def check_active(experiment: Experiment, *, given: str) -> None:
    """Raise UserError if the experiment is deleted; `given` says how it was named."""
    if experiment.lifecycle_stage != "active":
        raise UserError(
            f"{given}: is deleted; allowed: restore it (mlflow experiments restore --experiment-id {experiment.experiment_id}), or name "
            "another in MLFLOW_EXPERIMENT_NAME (mlflow run: --experiment-name)"
        )


def _file(uri: str) -> Path:
    return Path(unquote(uri.removeprefix("sqlite:///")))


def _check_file(uri: str) -> None:
    path = _file(uri)
    if str(path) in ("", ":memory:"):
        return
    folder = path.resolve().parent
    if path.exists():
        writable = path.is_file() and os.access(path, os.W_OK) and os.access(folder, os.W_OK)
    else:
        writable = folder.is_dir() and os.access(folder, os.W_OK)
    if writable and path.exists():
        with path.open("rb") as file:
            head = file.read(16)
        if head and not head.startswith(b"SQLite format 3"):
            raise UserError(
                f"store {path.resolve()}: not an SQLite database; allowed: an MLflow store, or a new path in MLFLOW_TRACKING_URI"
            )
    if not writable:
        raise UserError(
            f"store {path.resolve()}: cannot be written; allowed: a writable folder and file, or another store in MLFLOW_TRACKING_URI"
        )


def main(arguments: list[str]) -> int:
    """Check the store that would be used, and create what it lacks: its tables and, if one is named, the experiment."""
    uri = without_credentials(tracking_uri())
    try:
        with explain_missing_library("the store of runs"):
            check_store(uri)
            client = connect(uri)
            for name in arguments:
                experiment_id(client, uri, name)
    except UserError as error:
        print(f"memberscope: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("memberscope: stopped by SIGINT; the next start creates what is missing", file=sys.stderr)
        return Interrupted.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
