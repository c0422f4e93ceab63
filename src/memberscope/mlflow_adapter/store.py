"""Which store, and whether it can be used: checked before any work, since MLflow retries a dead one for minutes.

Run as a program it checks and says nothing, or prints one line and exits 2: ``python -m memberscope.mlflow_adapter.store``.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from memberscope.errors import UserError

DEFAULT_STORE = "mlflow.db"
TIMEOUT_SECONDS = 5.0

# What MLflow reads when it is imported or asked; set before, unless the user set it.
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "GIT_PYTHON_REFRESH": "quiet",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def prepare_environment() -> None:
    """Switch MLflow's telemetry off and its retries down, where the user has not decided."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def tracking_uri() -> str:
    """The store that MLflow's own variables name, else ``sqlite:///mlflow.db`` in the working directory (the project's root)."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path(DEFAULT_STORE).resolve()}"


def check_store(uri: str) -> None:
    """Raise UserError, within seconds, if the store cannot be written or its server does not answer."""
    parts = urlsplit(uri)
    if parts.scheme == "sqlite":
        _check_file(uri)
    elif parts.scheme in ("http", "https"):
        try:
            host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
            with socket.create_connection((host, port), timeout=TIMEOUT_SECONDS):
                pass
        except (OSError, ValueError) as error:
            raise UserError(
                f"MLFLOW_TRACKING_URI={uri}: the tracking server does not answer ({error}); allowed: a server that runs, or no value "
                "for a local store"
            ) from None


def _check_file(uri: str) -> None:
    path = Path(unquote(uri.removeprefix("sqlite:///")))
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


def main() -> int:
    """Check the store that would be used."""
    try:
        check_store(tracking_uri())
    except UserError as error:
        print(f"memberscope: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
