"""Which errors are outages, and how long one is waited for."""

from __future__ import annotations

import socket
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException, RestException

from memberscope import outages
from memberscope.errors import UserError
from memberscope.mlflow_adapter import faults


def _sqlite(statement: str, *, locked: bool) -> Exception:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.db"
        holder, other = sqlite3.connect(path, isolation_level=None), sqlite3.connect(path, timeout=0.0)
        try:
            if locked:
                holder.execute("BEGIN EXCLUSIVE")
            other.execute(statement)
        except sqlite3.Error as error:
            return error
        finally:
            holder.close()
            other.close()
    raise AssertionError("it did not fail")


def _of_request(**how: Any) -> Exception:
    """What MLflow's own client raises."""
    from mlflow.utils.rest_utils import http_request

    try:
        http_request(max_retries=0, endpoint="/api", method="GET", timeout=0.2, **how)
    except MlflowException as error:
        return error
    raise AssertionError("it did not fail")


def test_which_errors_are_outages() -> None:
    from mlflow.utils.rest_utils import MlflowHostCreds

    silent = socket.create_server(("127.0.0.1", 0))  # takes connections and never answers
    passing = {
        "refused": _of_request(host_creds=MlflowHostCreds("http://127.0.0.1:1")),
        "silent": _of_request(host_creds=MlflowHostCreds(f"http://127.0.0.1:{silent.getsockname()[1]}")),
        "500": RestException({"error_code": "INTERNAL_ERROR", "message": "no"}),
        "503": RestException({"error_code": "TEMPORARILY_UNAVAILABLE", "message": "no"}),
        "429": RestException({"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "no"}),
        "locked": _sqlite("SELECT * FROM sqlite_master", locked=True),
        "reset": ConnectionResetError(),
    }
    silent.close()
    lasting = {
        "no such table": _sqlite("SELECT * FROM nothing", locked=False),
        "404": RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no"}),
        "400": RestException({"error_code": "INVALID_PARAMETER_VALUE", "message": "database is locked"}),
        "403": RestException({"error_code": "PERMISSION_DENIED", "message": "no"}),
        "a mistake": ValueError("connection refused"),
        "a full disk": OSError(28, "No space left on device"),
    }
    assert [name for name, error in passing.items() if not faults.is_outage(error)] == []
    assert [name for name, error in lasting.items() if faults.is_outage(error)] == []
    assert faults.is_answer(passing["500"])
    assert not faults.is_answer(passing["refused"])


@pytest.mark.parametrize(("given", "seconds"), [("", 300.0), ("0", 0.0), ("24.5", 24.5)])
def test_the_limit_is_seconds(monkeypatch: pytest.MonkeyPatch, given: str, seconds: float) -> None:
    monkeypatch.setenv(outages.VARIABLE, given)
    assert outages.limit() == seconds


@pytest.mark.parametrize("given", ["-1", "nan", "inf", "five", "1e999"])
def test_no_other_limit(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(outages.VARIABLE, given)
    with pytest.raises(UserError, match=f"MEMBERSCOPE_OUTAGE_LIMIT={given}: allowed: a number of seconds, 0 or more"):
        outages.limit()
