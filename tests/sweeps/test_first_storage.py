"""A sweep's first start that is interrupted while Optuna makes its tables: the next one works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from memberscope import sqlite_files
from memberscope.sweeps import storage as storages

pytest.importorskip("optuna", reason="needs optuna, of the extra [sweep]")
ROOT = Path(__file__).resolve().parents[2]
INTERRUPTED = """
import os, sys
from sqlalchemy import event
from sqlalchemy.engine import Engine
from memberscope.sweeps import storage as storages
left = [int(sys.argv[1])]
@event.listens_for(Engine, "before_cursor_execute")
def count(connection, cursor, statement, *_):
    if not statement.startswith(("PRAGMA", "SELECT")):
        left[0] -= 1
        if left[0] < 0:
            os._exit(9)
"""
OURS = "storages.open_storage(sys.argv[2], heartbeat=1)"
ITS_OWN = "import optuna; optuna.storages.RDBStorage(sys.argv[2])"


@pytest.mark.parametrize("statements", [1, 8, 16])
@pytest.mark.parametrize("by", [OURS, ITS_OWN], ids=["ours", "Optuna's"])
def test_the_start_after_an_interrupted_one_works(tmp_path: Path, by: str, statements: int) -> None:
    path = tmp_path / "studies.db"
    words = [sys.executable, "-W", "ignore", "-c", INTERRUPTED + by, str(statements), f"sqlite:///{path}"]
    assert subprocess.run(words, cwd=ROOT / "src", capture_output=True, check=False).returncode == 9
    assert path.exists() == (by == ITS_OWN), "ours is whole or not there"
    opened = storages.open_storage(f"sqlite:///{path}", heartbeat=1)
    try:
        study = storages.open_study(opened, "s", {"cells": []}, directions=["minimize"])
        study.enqueue_trial({"x": 1})
        assert len(study.trials) == 1
    finally:
        opened.remove_session()
        opened.engine.dispose()
    assert "alembic_version" in (sqlite_files.tables(path) or ())
    assert [found.name for found in tmp_path.iterdir()] == [path.name], "nothing is left"
