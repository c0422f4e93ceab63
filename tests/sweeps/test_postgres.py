"""A sweep's study in a real PostgreSQL server that the test starts: claims race, a silent worker's trial is taken up, a space is held."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from memberscope.errors import UserError
from memberscope.sweeps import storage as storages
from memberscope.sweeps.trials import TrialQueue

INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) if Path("/usr/lib/postgresql").is_dir() else []
pytestmark = [
    pytest.mark.thorough,
    pytest.mark.e2e,
    pytest.mark.skipif(not INSTALLED, reason="needs a PostgreSQL server under /usr/lib/postgresql: apt-get install postgresql"),
]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Server:
    """Its address, and what starts it anew."""

    url: str
    restart: Callable[[], None]


@pytest.fixture(scope="module")
def url(server: Server) -> str:
    """The server's address."""
    return server.url


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of its own; PostgreSQL refuses to run as root, so there it runs as the user postgres.

    Its folder is none of pytest's: another run of the tests on this machine would take that user's way there away.
    """
    programs, port = INSTALLED[-1].parent, _free_port()
    as_user: list[str] = []
    folder = Path(tempfile.mkdtemp(prefix="memberscope-postgres-"))
    if os.geteuid() == 0:
        as_user = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres")

    def call(program: str, *words: str) -> None:
        done = subprocess.run(
            [*as_user, str(programs / program), *words], cwd="/", capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr

    place = str(folder / "data")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    try:
        call("initdb", "-D", place, "-U", "sweeper", "--auth=trust", "--no-sync")
        call("pg_ctl", "-D", place, "-l", str(folder / "log"), "-w", "-o", options, "start")
        yield Server(
            url=f"postgresql://sweeper@127.0.0.1:{port}/postgres",
            restart=lambda: call(
                "pg_ctl", "-D", place, "-l", str(folder / "log"), "-w", "-m", "immediate", "-o", options, "restart"
            ),
        )
    finally:  # a server that was slow to start is stopped, too
        if (folder / "data" / "postmaster.pid").exists():
            call("pg_ctl", "-D", place, "-m", "immediate", "stop")
        shutil.rmtree(folder)


OPENED: list[TrialQueue] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Connections are given back: an open one at the end is a warning, and so an error."""
    yield
    while OPENED:
        OPENED.pop().close()


def _ledger(url: str, name: str, *, heartbeat: int = 60, epochs: int = 4) -> TrialQueue:
    storage = storages.open_storage(storages.storage_url(url, Path()), heartbeat=heartbeat)
    try:
        study = storages.open_study(storage, name, {"epochs": epochs}, directions=["minimize"])
    except UserError:
        storage.remove_session()
        storage.engine.dispose()
        raise
    OPENED.append(TrialQueue(study=study, storage=storage))
    return OPENED[-1]


def test_workers_share_the_queue_and_close_each_trial_once(url: str) -> None:
    _ledger(url, "race").enqueue_cells({"a": {"width": 8}, "b": {"width": 16}}, range(5))
    ledgers = [_ledger(url, "race") for _ in range(4)]
    closed: list[int] = []
    start = threading.Barrier(len(ledgers), timeout=60)

    def work(queue: TrialQueue) -> None:
        start.wait()
        while claims := queue.claim():
            closed.extend(claim.number for claim in claims if queue.complete(claim, {"figures": {}}, [0.0]))
        queue.close()

    threads = [threading.Thread(target=work, args=(queue,)) for queue in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(closed) == Counter(range(10))
    assert _ledger(url, "race").enqueue_cells({"a": {"width": 8}, "b": {"width": 16}}, range(5)) == 0


def test_a_silent_worker_loses_its_trial(url: str) -> None:
    queue = _ledger(url, "silent", heartbeat=1)
    queue.enqueue_cells({"a": {"width": 8}}, [0])
    (lost,) = queue.claim()
    deadline = time.monotonic() + 30
    while not queue.trials("WAITING") and time.monotonic() < deadline:
        time.sleep(0.3)
        queue.revive()
    (again,) = queue.claim()
    assert again.attrs["cell"] == "a"
    assert queue.complete(again, {}, [0.0])
    assert not queue.complete(lost, {}, [0.0])


def test_a_restart_between_two_requests_ends_nothing(server: Server) -> None:
    queue = _ledger(server.url, "restarted")
    queue.enqueue_cells({"a": {"width": 8}}, range(2))
    (first,) = queue.claim()
    server.restart()
    assert queue.complete(first, {"figures": {}}, [0.0])
    server.restart()
    (second,) = queue.claim()
    server.restart()
    queue.note(second, note="x")
    assert queue.complete(second, {"figures": {}}, [0.0])
    assert [trial.state.name for trial in queue.trials()] == ["COMPLETE", "COMPLETE"]


def test_another_space_is_refused(url: str) -> None:
    _ledger(url, "space")
    with pytest.raises(UserError, match="epochs is 4 there and 5 here"):
        _ledger(url, "space", epochs=5)


def test_a_database_that_is_not_there_is_one_line(url: str) -> None:
    with pytest.raises(UserError, match="cannot be used") as caught:
        _ledger(url.replace("/postgres", "/nothing", 1).replace("//nothing", "//postgres"), "x")
    assert "\n" not in str(caught.value)


def _mlflow_store(url: str) -> None:
    """MLflow's tables in the database, made in a process of its own: it keeps connections."""
    code = "import mlflow, sys; mlflow.set_tracking_uri(sys.argv[1]); mlflow.create_experiment('there')"
    subprocess.run(
        [sys.executable, "-c", code, storages.storage_url(url, Path())], check=True, capture_output=True, timeout=300
    )


def _execute(url: str, statement: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(statement)


def test_a_sweep_by_two_workers_in_the_database_that_mlflow_keeps_its_runs_in(url: str, tmp_path: Path) -> None:
    """One database for both: MLflow's tables first, Optuna's in a schema of their own; without one, a line says how."""
    _execute(url, "CREATE DATABASE shared")
    both = f"{url.rpartition('/')[0]}/shared"
    _mlflow_store(both)
    with pytest.raises(UserError, match=r"MLflow keeps its runs there.*CREATE SCHEMA optuna"):
        _ledger(both, "x")
    _execute(both, "CREATE SCHEMA optuna")
    root = Path(__file__).resolve().parents[2]
    words = {
        "dataset": "digits", "grid": "width", "levels": "8,16", "members": 100, "nonmembers": 100, "validation": 60,
        "epochs": 3, "seeds": 2, "workers": 2, "batch_size": 20, "log_models": "no", "folder": tmp_path,
        "storage": f"{both}?options=-csearch_path%3Doptuna",
    }  # fmt: skip
    environment = {
        **os.environ, "PYTHONPATH": str(root / "src"), "MLFLOW_TRACKING_URI": storages.storage_url(both, Path()),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }  # fmt: skip
    command = [sys.executable, "-m", "memberscope.cli", "sweep", *(f"--{name}={value}" for name, value in words.items())]
    for again in (False, True):
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
        assert "4 trials, 2 seeds" in done.stdout
        import psycopg

        with psycopg.connect(both) as connection:
            states = connection.execute("SELECT state, count(*) FROM optuna.trials GROUP BY state").fetchall()
            runs = connection.execute("SELECT count(*) FROM runs WHERE status = 'FINISHED'").fetchone()
        assert states == [("COMPLETE", 4)], "each once, whoever did it"
        assert runs == (6 if again else 5,), "a run a trial and one a study; the second study only prints the answer"
