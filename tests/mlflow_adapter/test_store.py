"""The first touch of a store: one process makes it and others wait; a short look whether a server is there, and no hurry after it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from memberscope.errors import UserError
from memberscope.mlflow_adapter import store as stores

ROOT = Path(__file__).resolve().parents[2]
FIRST_TOUCH = """
import sys, time
from memberscope.mlflow_adapter.session import open_session
while time.time() < float(sys.argv[1]): time.sleep(0.01)
with open_session("attack", name="a") as session:
    session.tracker.metrics({"auc/x": 0.5})
"""


@pytest.mark.thorough
def test_of_several_first_starts_one_makes_the_store_and_the_others_wait(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="needs mlflow, of the extra [mlflow]")
    code = "import mlflow\n" + FIRST_TOUCH  # imported before the start, so that all begin at once
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}
    start = str(time.time() + 8)
    many = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code, start], cwd=tmp_path, env=environment, stderr=subprocess.PIPE
        )
        for _ in range(3)
    ]
    said = [process.communicate(timeout=240)[1].decode() for process in many]
    assert [process.returncode for process in many] == [0, 0, 0], said
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("memberscope")
    runs = client.search_runs([experiment.experiment_id])
    assert [(run.info.status, run.data.metrics) for run in runs] == [("FINISHED", {"auc/x": 0.5})] * 3


def test_the_makefile_makes_the_tables_and_the_experiment_before_mlflow_run(store: Path) -> None:
    import mlflow

    assert stores.main(["mine"]) == 0
    assert stores.main(["mine"]) == 0, "once more changes nothing"
    client = mlflow.MlflowClient()
    found = client.get_experiment_by_name("mine")
    assert found.artifact_location == (store / "mlruns" / "mine").as_uri()
    client.delete_experiment(found.experiment_id)
    assert stores.main(["mine"]) == 2
    assert "python -m memberscope.mlflow_adapter.store $(EXPERIMENT)" in (ROOT / "Makefile").read_text().replace(
        "$(BIN)/python", "python"
    )


@contextmanager
def _server(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _status(code: int) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


@pytest.mark.parametrize("code", [200, 401, 403, 404, 500])
def test_a_server_that_answers_anything_is_there(code: int) -> None:
    with _server(_status(code)) as (uri, asked):
        stores.check_store(uri + "/")
    assert asked == ["/health"]


@pytest.mark.parametrize("code", [502, 503, 504])
def test_a_proxy_with_nobody_behind_it_is_looked_at_twice(code: int) -> None:
    with _server(_status(code)) as (uri, asked), pytest.raises(UserError, match=f"does not answer .{code}"):
        stores.check_store(uri)
    assert asked == ["/health"] * 2


def test_a_server_that_accepts_and_says_nothing_is_given_up_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises(UserError, match="does not answer"):
            stores.check_store(f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert 0.4 <= time.monotonic() - start < 5


def test_databases_that_do_not_answer_are_named_without_their_password() -> None:
    with pytest.raises(UserError, match="the database does not answer") as caught:
        stores.check_store("postgresql+psycopg://me:secret@127.0.0.1:1/runs")
    assert "secret" not in str(caught.value)


def test_what_the_user_set_stays_and_a_server_is_waited_for_by_us_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow repeats a request seven times, also one that took effect; each of ours fails after a minute at most, and once."""
    for name in (*stores.QUIET, "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.setenv(name, "")  # what is set below ends with the test
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_PYTHON_REFRESH", "mine")
    stores.prepare_environment()
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES, MLFLOW_HTTP_REQUEST_TIMEOUT

    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["GIT_PYTHON_REFRESH"] == "mine", "what the user set stays"
    assert (MLFLOW_HTTP_REQUEST_TIMEOUT.get(), MLFLOW_HTTP_REQUEST_MAX_RETRIES.get()) == (120, 7), "MLflow's own"
    with stores.failing_requests():
        assert (MLFLOW_HTTP_REQUEST_TIMEOUT.get(), MLFLOW_HTTP_REQUEST_MAX_RETRIES.get()) == (60, 0)
    assert (MLFLOW_HTTP_REQUEST_TIMEOUT.get(), MLFLOW_HTTP_REQUEST_MAX_RETRIES.get()) == (120, 7), "of others in this process"
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "500")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "9")
    with stores.failing_requests():
        assert (MLFLOW_HTTP_REQUEST_TIMEOUT.get(), MLFLOW_HTTP_REQUEST_MAX_RETRIES.get()) == (500, 0)
    assert (MLFLOW_HTTP_REQUEST_TIMEOUT.get(), MLFLOW_HTTP_REQUEST_MAX_RETRIES.get()) == (500, 9)


def test_the_ui_is_opened_in_the_mode_that_shows_runs() -> None:
    made = subprocess.run(["make", "-n", "ui", "PORT=7777"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert 'echo "open: http://127.0.0.1:7777/#/?workflowType=machine_learning"' in made
    for path in [ROOT / "Makefile", ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.py")]:
        for address in re.findall(r"https?://[^\s\"`]*workflowType=[^\s\"`]*", path.read_text()):
            assert "/#/" in address, f"{path.name}: {address}"


@pytest.mark.parametrize("address", ["127.0.0.1:{port}/runs", "127.0.0.1:{port}/runs?sslmode=disable"])
def test_a_server_that_accepts_and_says_nothing_is_one_line_within_seconds(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "TIMEOUT_SECONDS", 2.0)  # the least that PostgreSQL's library takes
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"postgresql+psycopg://me:secret@{address.format(port=silent.getsockname()[1])}"
        start = time.monotonic()
        with pytest.raises(
            UserError, match=r"the database cannot be used \(.*timeout.*\); allowed: a running database"
        ) as caught:
            stores.check_store(uri)
        assert 1 < time.monotonic() - start < 10
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_socket_that_is_not_there_is_one_line_at_once(tmp_path: Path) -> None:
    start = time.monotonic()
    with pytest.raises(UserError, match="the database cannot be used"):
        stores.check_store(f"postgresql+psycopg://me@/runs?host={tmp_path}")
    assert time.monotonic() - start < 10
