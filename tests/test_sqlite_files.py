"""New databases: whole or not there, never in the place of another's, and what is left of interrupted ones does no harm."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from memberscope import sqlite_files

ROOT = Path(__file__).resolve().parent.parent
SLOWLY = """
import sqlite3, sys, time
from pathlib import Path
from memberscope.sqlite_files import make_if_absent
def create(path):
    with sqlite3.connect(path, isolation_level=None) as connection:
        connection.execute("CREATE TABLE a (x)")
        print("half", flush=True)
        time.sleep(600)
make_if_absent(Path(sys.argv[1]), create)
"""


def _two_tables(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE a (x)")
        connection.execute("CREATE TABLE b (x)")


def _never(path: Path) -> None:
    raise AssertionError(f"{path} is made though there is a database")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("empty", [False, True], ids=["absent", "empty"])
def test_an_interrupted_one_is_not_there_and_the_next_is_whole(tmp_path: Path, number: signal.Signals, empty: bool) -> None:
    path = tmp_path / "a new one?.db"
    if empty:
        path.touch()
    half = subprocess.Popen(
        [sys.executable, "-c", SLOWLY, str(path)], cwd=ROOT / "src", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert half.stdout is not None
    assert half.stdout.readline() == b"half\n"
    half.send_signal(number)
    half.communicate()
    assert (path.stat().st_size == 0) if empty else not path.exists()
    sqlite_files.make_if_absent(path, _two_tables)
    assert sqlite_files.tables(path) == ["a", "b"]
    assert [found.name for found in tmp_path.iterdir()] == [path.name], "nothing is left"


def test_one_that_another_process_has_put_there_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "store.db"

    def too_late(beside: Path) -> None:
        _two_tables(beside)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("CREATE TABLE other (x)")

    sqlite_files.make_if_absent(path, too_late)
    assert sqlite_files.tables(path) == ["other"]
    path.unlink()
    path.touch()
    sqlite_files.make_if_absent(path, too_late)
    assert sqlite_files.tables(path) == ["other"], "nor is an empty file replaced that is none any more"
    sqlite_files.make_if_absent(path, _never)


def test_a_folder_without_links_gets_its_database_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    sqlite_files.make_if_absent(tmp_path / "store.db", _two_tables)
    assert sqlite_files.tables(tmp_path / "store.db") == ["a", "b"]


def test_a_journal_of_a_database_that_is_gone_is_not_applied_to_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    journal = tmp_path / "store.db-journal"
    journal.write_bytes(b"of another database")
    sqlite_files.make_if_absent(path, _two_tables)
    assert sqlite_files.tables(path) == ["a", "b"]
    (kept,) = tmp_path.glob("store.db.left-over-*-journal")
    assert kept.read_bytes() == b"of another database"


def test_what_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_text("this is no database at all, and long enough to be seen as something else than one")
    assert sqlite_files.tables(path) is None
    sqlite_files.make_if_absent(path, _never)
    assert path.read_text().startswith("this is no database")


def test_two_that_are_set_aside_in_one_second_keep_their_names(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    for word in ("first", "second"):
        path.write_text(word)
        assert sqlite_files.set_aside(path, "unfinished").read_text() == word
    assert sorted(found.read_text() for found in tmp_path.iterdir()) == ["first", "second"]
