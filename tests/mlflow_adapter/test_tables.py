"""First starts: whatever interrupts one, the next works; unfinished tables are set aside if they hold nothing, and told otherwise."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from memberscope.errors import UserError
from memberscope.mlflow_adapter import store as stores
from memberscope.mlflow_adapter import tables

pytest.importorskip("mlflow", reason="needs mlflow, of the extra [mlflow]")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def new_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a store would be made, named in MLflow's variable."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path / "mlflow.db"


def _whole(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT name FROM experiments ORDER BY experiment_id").fetchall() == [
            ("Default",),
            ("memberscope",),
        ]


@pytest.mark.thorough
def test_the_start_after_an_interrupted_first_one_works(tmp_path: Path) -> None:
    """By SIGKILL and SIGINT, within the time that the tables take; by hand, the same program tries many moments."""
    command = [sys.executable, "-W", "ignore", str(ROOT / "tests" / "tools" / "first_starts.py"), "2", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "of 2 starts after an interrupted one, 2 are all right" in done.stdout
    assert "SIGKILL after" in done.stdout
    assert "SIGINT after" in done.stdout


INTERRUPTED_AFTER = (3, 150)


@pytest.fixture(scope="module")
def half_made(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Stores whose tables MLflow was making in their place, in processes that ended, as if killed, after so many statements.

    They are forks of one process, which imports MLflow once.
    """
    pytest.importorskip("mlflow", reason="needs mlflow, of the extra [mlflow]")
    folders = {statements: tmp_path_factory.mktemp(f"after-{statements}") for statements in INTERRUPTED_AFTER}
    code = f"""
import os, sqlalchemy
from sqlalchemy import event
from sqlalchemy.engine import Engine
import mlflow
import mlflow.store.tracking.sqlalchemy_store
def interrupt_after(statements, folder):
    left = [statements]
    @event.listens_for(Engine, "before_cursor_execute")
    def count(connection, cursor, statement, *_):
        if not statement.startswith(("PRAGMA", "SELECT")):
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)
    mlflow.MlflowClient(f"sqlite:///{{folder}}/mlflow.db")
for statements, folder in { {statements: str(folder) for statements, folder in folders.items()} }.items():
    child = os.fork()
    if not child:
        interrupt_after(statements, folder)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {statements: folder / "mlflow.db" for statements, folder in folders.items()}


@pytest.mark.parametrize("statements", INTERRUPTED_AFTER)
def test_what_mlflow_left_half_made_is_set_aside_if_it_holds_nothing(
    new_store: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    half_made: dict[int, Path],
    statements: int,
) -> None:
    monkeypatch.setattr(tables, "QUIET_SECONDS", 0.1)
    for left in half_made[statements].parent.glob("mlflow.db*"):  # with its journal, if there is one
        shutil.copy(left, new_store.parent)
    half = new_store.read_bytes()
    assert tables.unfinished(new_store) != ""
    assert stores.main(["memberscope"]) == 0
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "an earlier start was interrupted while it was creating the tables" in said
    (aside,) = new_store.parent.glob("mlflow.db.unfinished-*[0-9]")
    assert aside.name in said
    assert aside.read_bytes() == half
    assert _whole(new_store)
    assert stores.main(["memberscope"]) == 0
    assert capsys.readouterr().err == "", "once"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("CREATE TABLE _alembic_tmp_experiments (x)", "table _alembic_tmp_experiments"),
        ("DROP TABLE alembic_version", "no table alembic_version"),
        ("DELETE FROM alembic_version", "table alembic_version is empty"),
    ],
)
def test_unfinished_tables_that_hold_runs_are_told_in_one_line_and_stay(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, damage: str, reason: str
) -> None:
    monkeypatch.setattr(tables, "QUIET_SECONDS", 0.1)
    import mlflow

    path = store / "mlflow.db"
    mlflow.MlflowClient().create_run("0")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(damage)
    before = path.read_bytes()
    assert stores.main([]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"store {path}: an upgrade of its tables was interrupted ({reason})" in said
    assert "allowed: " in said
    assert path.read_bytes() == before


def test_tables_that_somebody_is_making_are_waited_for(
    new_store: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "QUIET_SECONDS", 0.1)
    monkeypatch.setattr(tables.sqlite_files, "PATIENCE_SECONDS", 1.0)
    new_store.write_bytes(empty_store.read_bytes())
    code = f"""
import sqlite3, sys
connection = sqlite3.connect({str(new_store)!r}, isolation_level=None)
connection.execute("CREATE TABLE _alembic_tmp_runs (x)")
print("half", flush=True)
sys.stdin.readline()
connection.execute("DROP TABLE _alembic_tmp_runs")
"""
    maker = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert maker.stdout is not None
    assert maker.stdout.readline() == b"half\n"
    with pytest.raises(UserError, match=f"in use by process {maker.pid}; allowed: wait for that process to finish, or end it"):
        tables.make_tables(new_store)
    maker.communicate(b"\n")
    tables.make_tables(new_store)
    assert [path.name for path in new_store.parent.iterdir()] == ["mlflow.db"], "nothing is set aside"


def test_stores_in_use_and_other_databases_are_left_alone(store: Path, tmp_path: Path) -> None:
    import mlflow

    path = store / "mlflow.db"
    assert tables.unfinished(path) == ""
    mlflow.MlflowClient().create_run("0")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'of a later MLflow'")
    assert tables.unfinished(path) == "", "MLflow itself says what to do about another version"
    other = tmp_path / "other.db"
    with closing(sqlite3.connect(other, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    assert tables.unfinished(other) == ""
    assert stores.database("sqlite:///:memory:") is None
    assert stores.database("postgresql+psycopg://host/runs") is None
    assert stores.database(f"sqlite:///{path}?timeout=30") == path
