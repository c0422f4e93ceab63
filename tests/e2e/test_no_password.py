"""Passwords planted in addresses, in studies that succeed, fail and are stopped: none is in any file, table or line that is left."""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from memberscope import cli
from memberscope.errors import UserError
from memberscope.mlflow_adapter.read import read_run
from memberscope.mlflow_adapter.store import without_credentials
from memberscope.studies.sweep.study import job_files
from memberscope.studies.sweep.work import Job
from memberscope.tracking import MemoryTracker
from memberscope.training.execution import dask

pytestmark = pytest.mark.e2e
PLAIN = "zq7planted"
ODD = "zq7pl/an@ted#zq7tail"  # a password that takes an address apart wherever it is not encoded
TRAINER = '''
import os, signal
import numpy as np

def train(job, k=1):
    """The label of the nearest member; or what the test wants to go wrong."""
    if os.environ.get("GOES_WRONG") == "error":
        raise OSError("connection lost: " + os.environ["PLANTED"])
    if os.environ.get("GOES_WRONG") == "stop":
        os.kill(int(os.environ["STUDY"]), signal.SIGINT)
    x, y = job.x.astype(np.float64), job.y

    def predict(records):
        apart = ((records[:, None].astype(np.float64) - x) ** 2).sum(axis=2)
        return np.eye(job.classes)[y[np.argsort(apart, axis=1)[:, :1]]].mean(axis=1) * 0.9 + 0.05

    return predict
'''


def spellings() -> list[str]:
    """All that may betray a password: as it is, encoded, and the parts of the odd one that nothing else contains."""
    return [PLAIN, ODD, quote(ODD, safe=""), "zq7pl", "zq7tail"]


def holders(folder: Path, said: str) -> list[str]:
    """What holds a planted password: files under a folder by their bytes, their tables by each value, and the output."""
    found = [f"output: {line}" for line in said.splitlines() if any(word in line for word in spellings())]
    for path in sorted(folder.rglob("*")):
        if any(word in str(path) for word in spellings()):
            found.append(f"name of {path}")
        if not path.is_file():
            continue
        found += [f"{path}: {word}" for word in spellings() if word.encode() in path.read_bytes()]
        if path.suffix == ".db":
            with closing(sqlite3.connect(path)) as database:
                for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                    for row in database.execute(f'SELECT * FROM "{table}"'):
                        found += [
                            f"{path}, {table}: {value}" for value in row if any(word in str(value) for word in spellings())
                        ]
    return found


@dataclass(frozen=True)
class Place:
    """A folder with a store, data, a trainer and a space."""

    folder: Path

    def sweep(self, storage: str, *more: str) -> list[str]:
        options = {
            "trainer": "near.py:train", "dataset": "noisy.npz", "space": "space.yaml", "sampler": "grid", "folder": "sweeps", "seeds": "1",
            "members": "60", "nonmembers": "60", "validation": "20", "workers": "1", "storage": storage,
        }  # fmt: skip
        return ["sweep", *(word for name, value in options.items() for word in (f"--{name}", value)), *more]

    @property
    def attack(self) -> list[str]:
        return ["attack", "--predictions", "outputs.npz"]


@pytest.fixture
def place(store: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    (store / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(store / "tmp"))
    monkeypatch.setenv("TMPDIR", str(store / "tmp"))
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "")  # what a study sets ends with the test
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    (store / "near.py").write_text(TRAINER)
    (store / "space.yaml").write_text("factors:\n  k: [1, 2]\n")
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200)
    np.savez(store / "noisy.npz", x=rng.normal(size=(200, 3)) + y[:, None], y=y)
    return Place(folder=store)


@pytest.fixture
def refusing() -> Iterator[str]:
    """A tracking server that wants to know nothing of us: 401 to one path, 500 to others."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = b'{"error_code": "INTERNAL_ERROR", "message": "no"}'
            self.send_response(500 if os.environ.get("GOES_WRONG") == "500" else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = _answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


SETUPS = [
    # name, storage, tracking store, what goes wrong, exit code
    ("a sweep that succeeds", "sqlite:///file:{folder}/kept.db?uri=true&password=" + PLAIN, "", "", 0),
    ("a sweep whose trials fail", "sqlite:///file:{folder}/kept.db?uri=true&password=" + PLAIN, "", "error", 1),
    ("a sweep that is stopped", "sqlite:///file:{folder}/kept.db?uri=true&password=" + PLAIN, "", "stop", 130),
    ("SQLite that warns of the parameter", "sqlite:///{folder}/kept.db?password=" + PLAIN, "", "", 0),
    ("a run of mlflow run", f"postgresql://me:{PLAIN}@127.0.0.1:1/d", "", "adopted", 2),
    ("a run of mlflow run, an odd password", f"postgresql://me:{ODD}@127.0.0.1:1/d", "", "adopted", 2),
    ("PostgreSQL that does not answer", f"postgresql://me:{PLAIN}@127.0.0.1:1/d", "", "", 2),
    ("PostgreSQL, an odd password", f"postgresql+psycopg://me:{ODD}@127.0.0.1:1/d", "", "", 2),
    ("PostgreSQL, an encoded password", f"postgresql://me:{quote(ODD, safe='')}@127.0.0.1:1/d?sslpassword={PLAIN}", "", "", 2),
    ("a storage of no kind", f"oracle+x://me:{PLAIN}@host/d", "", "", 2),
    ("a storage named by a variable", "env:PLANTED", "", "", 2),
    ("a tracking server that answers 401", "", "http://me:" + PLAIN + "@{server}", "", 2),
    ("a tracking server that answers 500", "", "http://me:" + quote(ODD, safe="") + "@{server}", "500", 2),
    ("a tracking server, an odd password", "", "http://me:" + ODD + "@{server}", "", 2),
    ("a tracking database that does not answer", "", f"postgresql+psycopg://me:{PLAIN}@127.0.0.1:1/d", "", 2),
    ("a tracking database, an odd password", "", f"mysql+pymysql://me:{ODD}@127.0.0.1:1/d?password={PLAIN}", "", 2),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Query string argument")  # SQLAlchemy's, with the parameter's name alone
@pytest.mark.parametrize(
    ("name", "storage", "tracking", "wrong", "code"),
    [  # `make test` has sweeps that fail, are stopped or are warned of their address
        pytest.param(*setup, id=setup[0], marks=pytest.mark.thorough if setup[0] == "a sweep that succeeds" else ())
        for setup in SETUPS
    ],
)
def test_no_password_is_left(
    place: Place, refusing: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], name: str, storage: str, tracking: str,
    wrong: str, code: int,
) -> None:  # fmt: skip
    monkeypatch.setenv("GOES_WRONG", wrong)
    monkeypatch.setenv("STUDY", str(os.getpid()))
    monkeypatch.setenv("PLANTED", f"postgresql://me:{PLAIN}@127.0.0.1:1/d")
    if tracking:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking.format(server=refusing))
        np.savez(place.folder / "outputs.npz", member=np.arange(80) % 2, y=np.zeros(80, int), probs=np.full((80, 2), 0.5))
    if wrong == "adopted":
        import mlflow

        run = mlflow.MlflowClient().create_run("0")
        monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    words = place.attack if tracking else place.sweep(storage.format(folder=place.folder))
    assert cli.main([*words, "--verbose"]) == code  # a traceback, and the line of the error
    said = "".join(capfd.readouterr())
    assert ("Traceback" in said) == (code != 0)
    assert said.count("memberscope: ") >= (code != 0)
    assert holders(place.folder, said) == []
    if storage.startswith("env:"):
        assert "storage=env:PLANTED: does not answer" in said
        assert "127.0.0.1:1" not in said
    if wrong == "adopted":
        ended = mlflow.MlflowClient().get_run(run.info.run_id)
        assert (ended.info.status, ended.data.tags["memberscope.exit_code"]) == ("FAILED", "2")
        assert "--storage 'postgresql://me:***@127.0.0.1:1/d'" in ended.data.tags["memberscope.command"]
        assert "does not answer" in ended.data.tags["memberscope.error"]
        assert "note: mlflow run keeps storage, password included" in said
    if storage and code in (0, 1):  # the search finds what was left where there is something to find
        held = [path for path in place.folder.rglob("*") if path.is_file() and b"password=***" in path.read_bytes()]
        assert {"mlflow.db", "study.json"} <= {path.name for path in held}


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(f"x {PLAIN}")
    with closing(sqlite3.connect(tmp_path / "b.db")) as database:
        database.execute("CREATE TABLE t (v TEXT)")
        database.execute("INSERT INTO t VALUES (?)", [f"x {PLAIN}"])
        database.commit()
    found = {line.removeprefix(str(tmp_path)) for line in holders(tmp_path, f"a\n{PLAIN}")}
    assert {f"output: {PLAIN}", f"/a.txt: {PLAIN}", f"/b.db: {PLAIN}", f"/b.db, t: x {PLAIN}"} <= found


def test_runs_of_older_versions_are_read_without_their_passwords(store: Path) -> None:
    import mlflow

    client = mlflow.MlflowClient()
    address = f"postgresql://me:{PLAIN}@h/d"
    tags = {"memberscope.command": f"memberscope sweep --storage {address}", "memberscope.storage": address}
    run = client.create_run("0", run_name=f"of {address}", tags=tags)
    client.log_param(run.info.run_id, "fleet.storage", address)
    client.log_text(run.info.run_id, f'{{"fleet.storage": "{address}?password={PLAIN}"}}', "study.json")
    kept = read_run(client, run.info.run_id, experiment_id="0")
    assert PLAIN not in repr(kept)
    assert kept.params["fleet.storage"] == "postgresql://me:***@h/d"
    assert json.loads(kept.texts["study.json"]) == {"fleet.storage": "postgresql://me:***@h/d?password=***"}
    assert kept.tags["memberscope.command"] == "memberscope sweep --storage postgresql://me:***@h/d"


def test_the_password_of_a_tracking_server_is_handed_to_mlflow_in_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "before")
    assert without_credentials("http://h:5000") == "http://h:5000"
    assert without_credentials(f"sqlite:////tmp/a:b@c/{PLAIN}.db") == f"sqlite:////tmp/a:b@c/{PLAIN}.db"
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "before"
    assert without_credentials(f"https://m%40e:{quote(ODD, safe='')}@h:5000/x") == "https://h:5000/x"
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("m@e", ODD)


@pytest.mark.parametrize("given", [f"tls://me:{PLAIN}@127.0.0.1:1", f"tcp://me:{ODD}@127.0.0.1:1", "env:PLANTED"])
def test_a_scheduler_that_does_not_answer_is_named_without_its_password(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="needs distributed, of the extra [cluster]")
    monkeypatch.setenv("PLANTED", f"tcp://me:{PLAIN}@127.0.0.1:1")
    monkeypatch.setattr(dask, "CONNECT_SECONDS", 1)
    with pytest.raises(UserError, match=r"^scheduler=\S+: cannot be reached \(") as caught:
        dask.connect(given)
    assert not any(word in str(caught.value) for word in spellings())
    assert ("127.0.0.1" in str(caught.value)) == (not given.startswith("env:"))


def test_job_files_of_workers_hold_no_password(tmp_path: Path) -> None:
    job = Job(
        url=f"postgresql+psycopg://me:{PLAIN}@h/d", storage=f"postgresql://me:{PLAIN}@h/d", study="s", heartbeat=5, data="x"
    )
    job_files(job, 2, tmp_path, MemoryTracker())
    assert holders(tmp_path, "") == []
    assert Job.from_json(job.to_json()).url == "postgresql+psycopg://me:***@h/d"
    job = Job(url=f"postgresql+psycopg://me:{PLAIN}@h/d", storage="env:MY_DB", study="s", heartbeat=5, data="x")
    assert Job.from_json(job.to_json()).url == "env:MY_DB"
