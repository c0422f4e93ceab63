"""Runs whose process is gone: every run says whose it is from its first write; those of `mlflow run` are ended only if nobody has them."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

mlflow = pytest.importorskip("mlflow", reason="needs mlflow, of the extra [mlflow]")

from memberscope.mlflow_adapter import claims, process, stale  # noqa: E402
from memberscope.mlflow_adapter import store as stores  # noqa: E402
from memberscope.mlflow_adapter.session import open_session  # noqa: E402

SLEEP = "import sys, time\nprint('there', flush=True)\ntime.sleep(600)"
HOLD = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nc.execute('SELECT 1 FROM runs')\n" + SLEEP


def _project_tags(**changes: str) -> dict[str, str]:
    """What `mlflow run` gives a run of this checkout before our code starts."""
    tags = {
        "mlflow.user": getpass.getuser(),
        "mlflow.source.type": "PROJECT",
        "mlflow.source.name": f"file://{stale.CHECKOUT}",
        "mlflow.project.entryPoint": "train",
    }
    return {**tags, **{name.replace("_", "."): value for name, value in changes.items()}}


def _run(experiment: str, tags: Mapping[str, str], *, age: float = 300.0) -> str:
    made = mlflow.MlflowClient().create_run(experiment, start_time=int((time.time() - age) * 1000), tags=dict(tags))
    return str(made.info.run_id)


def _statuses(store: Path, *runs: str) -> list[str]:
    client = mlflow.MlflowClient()
    experiment = client.get_run(runs[0]).info.experiment_id
    stale.end_stale_runs(client, experiment, store / "mlflow.db")
    return [client.get_run(run).info.status for run in runs]


@contextmanager
def _process(code: str, *words: str, **environment: str) -> Iterator[int]:
    child = subprocess.Popen([sys.executable, "-c", code, *words], env={**os.environ, **environment}, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"there\n"
        yield child.pid
    finally:
        child.kill()
        child.communicate()


@pytest.fixture
def long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process, which has the store open, began after the runs of a test."""
    monkeypatch.setattr(stale, "_may_belong", _but_of_this_process(stale._may_belong))


def _but_of_this_process(asked):  # type: ignore[no-untyped-def]
    return lambda found, *others: found.pid != os.getpid() and asked(found, *others)


def test_every_run_says_whose_it_is_in_its_first_write(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Mapping[str, str]] = []
    create = mlflow.MlflowClient.create_run

    def recorded(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        made.append(kwargs.get("tags") or {})
        return create(self, *args, **kwargs)

    monkeypatch.setattr(mlflow.MlflowClient, "create_run", recorded)
    with open_session("shadow", name="a") as session, session.tracker.child("b") as child, child.child("c") as nested:
        nested.metrics({"x": 1.0})
    assert len(made) == 3
    for tags in made:
        assert tags[process.HOST_TAG] == socket.gethostname()
        assert tags[process.PROCESS_TAG] == process.this_process()
        assert tags["memberscope.kind"]


def test_a_process_that_nobody_has_waited_for_is_gone(store: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", SLEEP], stdout=subprocess.PIPE)
    import psutil

    name = f"{child.pid}:{psutil.Process(child.pid).create_time():.2f}"
    assert process.is_running(name)
    child.kill()
    deadline = time.monotonic() + 30
    while process.is_running(name) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not process.is_running(name), "a zombie, until it is waited for"
    child.communicate()


def test_a_run_of_mlflow_run_whose_script_never_said_so_is_ended(store: Path, long_ago: None) -> None:
    gone = _run("0", _project_tags())
    assert _statuses(store, gone) == ["KILLED"]


@pytest.mark.parametrize(
    "changes",
    [
        {"mlflow_user": "somebody else"},
        {"mlflow_source_name": "file:///another/checkout"},
        {"mlflow_source_name": f"file://{stale.CHECKOUT}#inside"},
        {"mlflow_source_name": ""},
        {"mlflow_source_type": "LOCAL"},
        {"mlflow_project_backend": "kubernetes"},
        {process.HOST_TAG.replace(".", "_"): "another", process.PROCESS_TAG.replace(".", "_"): "1:5.00"},
    ],
    ids=str,
)
def test_what_may_be_somebody_elses_is_left_alone(store: Path, long_ago: None, changes: Mapping[str, str]) -> None:
    assert _statuses(store, _run("0", _project_tags(**changes))) == ["RUNNING"]


def test_a_run_that_may_just_be_starting_is_left_alone(store: Path, long_ago: None) -> None:
    young = _run("0", _project_tags(), age=stale.STARTING_SECONDS - 30)
    assert _statuses(store, young) == ["RUNNING"]


def test_a_run_in_a_database_that_other_machines_may_use_is_left_alone(store: Path, long_ago: None) -> None:
    client, run = mlflow.MlflowClient(), _run("0", _project_tags())
    stale.end_stale_runs(client, "0", stores.database("postgresql+psycopg://host/runs"))
    assert client.get_run(run).info.status == "RUNNING"


def test_a_run_that_a_process_has_in_its_environment_or_may_have_made_is_left_alone(store: Path, long_ago: None) -> None:
    first, second = _run("0", _project_tags()), _run("0", _project_tags())
    with _process(SLEEP, MLFLOW_RUN_ID=first):
        assert _statuses(store, first, second) == ["RUNNING", "KILLED"]
    with _process(HOLD, str(store / "mlflow.db")):
        older = _run("0", _project_tags(), age=stale.STARTING_SECONDS + 300)
        assert _statuses(store, older) == ["KILLED"], "that process is younger than the run"
        younger = _run("0", _project_tags(), age=-5)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stale, "STARTING_SECONDS", -60.0)
            assert _statuses(store, younger) == ["RUNNING"], "that process may have made it"
    with _process(HOLD, str(store / "mlflow.db"), "mlflow", "server"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(stale, "STARTING_SECONDS", -60.0)
        assert _statuses(store, younger) == ["KILLED"], "a server makes no project's run"


def test_a_run_whose_script_was_killed_while_importing_mlflow_is_ended_at_once(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In any store: the claim names the process."""
    client, held, gone = mlflow.MlflowClient(), *(_run("0", _project_tags(mlflow_user="x"), age=0) for _ in range(2))
    claims.claim(held)
    code = f"from memberscope.mlflow_adapter.claims import claim\nclaim({gone!r})\n" + SLEEP
    with _process(code, PYTHONPATH=str(stale.CHECKOUT / "src")):
        stale.end_stale_runs(client, "0", None)
        assert client.get_run(gone).info.status == "RUNNING"
    stale.end_stale_runs(client, "0", None)
    assert [client.get_run(run).info.status for run in (held, gone)] == ["RUNNING", "KILLED"]
    assert claims.claimant(gone) == "", "dropped"
    monkeypatch.setenv("MLFLOW_RUN_ID", held)
    with open_session("train", name="x"):
        assert claims.claimant(held) == "", "the run has its tags"


def test_claims_keep_to_their_folder_and_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims.tempfile, "gettempdir", lambda: str(tmp_path))
    claims.claim("../" + "a" * 32)
    claims.claim("not an id")
    assert list(tmp_path.iterdir()) == []
    claims.claim("a" * 32)
    claims.claim("a" * 32)
    assert claims.claimant("a" * 32) == process.this_process()
    (found,) = tmp_path.iterdir()
    assert found.stat().st_mode & 0o777 == 0o600
    us, other = os.getuid(), os.getuid() + 1
    found.rename(str(found).replace(f"-{us}-", f"-{other}-"))
    monkeypatch.setattr(claims.os, "getuid", lambda: other)
    assert claims.claimant("a" * 32) == "", "another user's file"


def test_a_run_that_was_ended_in_error_runs_again_once_its_script_starts(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client, run = mlflow.MlflowClient(), _run("0", _project_tags())
    client.set_terminated(run, "KILLED")
    monkeypatch.setenv("MLFLOW_RUN_ID", run)
    with open_session("train", name="x"):
        found = client.get_run(run)
        assert found.info.status == "RUNNING"
        assert found.data.tags[process.PROCESS_TAG] == process.this_process()
    assert client.get_run(run).info.status == "FINISHED"


def test_a_run_whose_process_ended_during_ours_is_ended_by_us(store: Path) -> None:
    """A worker outlives the sweep that was killed by some seconds: the next start may still see it alive."""
    client = mlflow.MlflowClient()
    with open_session("train", name="first") as session:
        session.tracker.metrics({"m": 1.0})
        gone = client.create_run(
            session.tracker.experiment_id, tags={process.HOST_TAG: socket.gethostname(), process.PROCESS_TAG: "999999999:0"}
        )
    assert client.get_run(gone.info.run_id).info.status == "KILLED"
    assert client.get_run(session.tracker.run_id).info.status == "FINISHED"
