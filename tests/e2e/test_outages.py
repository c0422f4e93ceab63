"""A tracking store that goes away in the midst of a study: a real server that is killed, a real database that is locked."""

from __future__ import annotations

import socket
import sqlite3
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from outages import Place, Server, differences

from memberscope import cli
from memberscope.mlflow_adapter import spool

pytestmark = pytest.mark.e2e
KILLS = """
import os, signal
import near

def train(job):
    if os.environ["SERVER"]:
        os.killpg(int(os.environ["SERVER"]), signal.SIGKILL)
    return near.train(job, pause=0)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server, and data and trainers beside it: one of them kills the server."""
    folder = tmp_path_factory.mktemp("outages")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    made = Place(folder=folder, server=Server(folder=folder, port=port))
    made.server.start()
    made.write()
    (folder / "kills.py").write_text(KILLS)
    try:
        yield made
    finally:
        made.server.close()


@pytest.fixture
def study(place: Place, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A study whose trainer kills the server, to be run in this process."""
    monkeypatch.chdir(place.folder)
    monkeypatch.syspath_prepend(str(place.folder))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place.server.uri)
    monkeypatch.setenv(spool.VARIABLE, str(place.folder / "spool"))
    if place.server.process is None:
        place.server.start()
    assert place.server.process is not None
    monkeypatch.setenv("MEMBERSCOPE_OUTAGE_LIMIT", "100")
    monkeypatch.setenv("SERVER", str(place.server.process.pid))
    options = {
        "trainer": "kills.py:train",
        "dataset": "noisy.npz",
        "members": 60,
        "nonmembers": 60,
        "validation": 20,
        "attacks": "threshold",
    }
    return ["train", *(f"--{name}={value}" for name, value in options.items())]


def _undisturbed(place: Place, study: list[str], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "undisturbed")
    with monkeypatch.context() as patch:
        patch.setenv("SERVER", "")
        if not place.runs("undisturbed"):
            assert cli.main(study) == 0
    return place.runs("undisturbed")


@pytest.mark.thorough
def test_a_server_that_comes_back_has_the_same_runs(
    place: Place, study: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = _undisturbed(place, study, monkeypatch)
    assert [(run[0], run[1]) for run in expected] == [("train-noisy.npz-kills-s0", "FINISHED")]
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "back")
    capsys.readouterr()
    revival = threading.Timer(6.0, place.revive)
    revival.start()
    assert cli.main(study) == 0
    revival.join()
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("memberscope: ")]
    assert len(said) == 2, said
    assert f"the tracking server {place.server.uri} does not answer" in said[0]
    assert "memberscope waits for it for up to 100 s" in said[0]
    assert "answers again, after" in said[1]
    assert differences(place.runs("back"), expected) == ""
    assert place.spools() == []


@pytest.mark.thorough
@pytest.mark.parametrize("how", ["resend", "the next start"])
def test_a_server_that_does_not_gets_them_later(
    place: Place, study: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    expected = _undisturbed(place, study, monkeypatch)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", how)
    monkeypatch.setenv("MEMBERSCOPE_OUTAGE_LIMIT", "1")
    capsys.readouterr()
    assert cli.main(study) == 2
    out, err = capsys.readouterr()
    assert "threshold_loss" in out, "the result is shown all the same"
    (folder,) = place.spools()
    last = err.splitlines()[-1]
    assert f"kept in {folder}; allowed, once it answers: memberscope resend {folder}, or start any study on that store" in last
    place.revive()
    if how == "resend":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        assert cli.main(["resend", str(folder)]) == 2
        assert f"was left for the store {place.server.uri}" in capsys.readouterr().err
        monkeypatch.setenv("MLFLOW_TRACKING_URI", place.server.uri)
        assert cli.main(["resend", str(folder)]) == 0
        assert "of 1 run" in capsys.readouterr().out
        assert cli.main(["resend", str(folder)]) == 2, "once"
    else:
        assert cli.main(["attack", "--predictions", "absent.npz"]) == 2
        assert "what an earlier run could not send is now in the store" in capsys.readouterr().err
    assert differences(place.runs(how), expected) == ""
    assert place.spools() == []


def test_a_locked_database_is_waited_for(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is locked while a model is trained, for longer than it takes MLflow to give up: here 0.2 s, and not 20."""
    import mlflow.store.db.utils
    import sqlalchemy

    soon = types.SimpleNamespace(text=lambda words: sqlalchemy.text(words.replace("20000", "200")))
    monkeypatch.setattr(mlflow.store.db.utils, "sql", soon)
    Place(folder=store, server=Server(folder=store, port=0)).write()
    (store / "locks.py").write_text(
        "import near, pathlib\n\ndef train(job):\n    pathlib.Path('training').touch()\n    return near.train(job, pause=2)\n"
    )
    monkeypatch.syspath_prepend(str(store))
    monkeypatch.setenv("MEMBERSCOPE_OUTAGE_LIMIT", "100")

    def hold() -> None:
        while not (store / "training").exists():
            time.sleep(0.05)
        connection = sqlite3.connect(store / "mlflow.db", isolation_level=None, timeout=30)
        connection.execute("BEGIN EXCLUSIVE")
        time.sleep(6)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    words = "--trainer locks.py:train --dataset noisy.npz --members 60 --nonmembers 60 --validation 20 --attacks threshold"
    code = cli.main(["train", *words.split()])
    holder.join()
    err = capsys.readouterr().err
    assert code == 0, err
    assert "Traceback" not in err
    assert f"the tracking store sqlite:///{store}/mlflow.db does not answer (database is locked)" in err
    assert "answers again" in err
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([one.experiment_id for one in client.search_experiments()])
    assert (run.info.status, run.data.tags["memberscope.exit_code"]) == ("FINISHED", "0")


def test_a_spool_that_cannot_be_written_is_told_before_anything(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (store / "file").write_text("")
    monkeypatch.setenv(spool.VARIABLE, str(store / "file" / "spool"))
    assert cli.main(["attack", "--predictions", "absent.npz"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"memberscope: spool {store}/file/spool: cannot be written (Not a directory)")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "resend: 0 arguments; allowed: one folder"),
        (["a", "b"], "resend: 2 arguments; allowed: one folder"),
        (["absent"], "holds nothing that memberscope left to be sent"),
    ],
)
def test_resend_says_what_it_cannot_send(store: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert cli.main(["resend", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
