"""Ctrl-C where a study looks at nothing: once, and a second time where even leaving the work is not possible."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

STUDY = """
import hashlib, subprocess, sys, time
from memberscope import cli
from memberscope.studies import attack

def run(config, tracker, stop):
    tracker.text("begun", "begun.txt")
    with tracker.child("model") as child:
        child.text("begun", "begun.txt")
        helper = subprocess.Popen(["sleep", "120"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        print("ready", helper.pid, flush=True)
        {work}
    raise AssertionError("it went on")

attack.run = run
sys.exit(cli.main(["attack", "--predictions", "none.npz"]))
"""
SWALLOWED = """
        try:
            time.sleep(120)
        except BaseException:
            pass
        return
"""


def _statuses(database_at: Path) -> list[str]:
    with sqlite3.connect(database_at) as database:
        return [status for (status,) in database.execute("SELECT status FROM runs")]


def _start(folder: Path, work: str) -> tuple[subprocess.Popen[str], int]:
    """In a folder that has a store, which the process would take a second to make."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db"}
    process = subprocess.Popen(
        [sys.executable, "-c", STUDY.format(work=work.strip())], cwd=folder, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("ready"):
            return process, int(line.split()[1])
    raise AssertionError(process.communicate()[1])


@pytest.mark.parametrize(
    "work",
    [pytest.param("time.sleep(120)", id="sleep"), pytest.param("while True: pass", id="code", marks=pytest.mark.thorough)],
)
def test_work_that_checks_nothing_is_left_and_its_runs_are_killed(work: str, store: Path) -> None:
    process, helper = _start(store, work)
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "memberscope: stopped by SIGINT; what was finished is saved"
    assert time.monotonic() - start < 30  # 3 s on a quiet machine
    assert _statuses(store / "mlflow.db") == ["KILLED", "KILLED"]
    os.kill(helper, signal.SIGKILL)


@pytest.mark.thorough  # `make test` stops once here, and twice in tests/test_interrupt.py
def test_a_second_one_inside_a_library_marks_the_runs_and_ends_what_was_started(store: Path) -> None:
    process, helper = _start(store, "hashlib.pbkdf2_hmac('sha256', b'a', b'b', 2 * 10**9)")
    process.send_signal(signal.SIGINT)
    time.sleep(2.0)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "memberscope: stopped at once by a second SIGINT"
    assert _statuses(store / "mlflow.db") == ["KILLED", "KILLED"]
    for _ in range(100):
        if not Path(f"/proc/{helper}").exists() or "Z" in Path(f"/proc/{helper}/stat").read_text().split():
            break
        time.sleep(0.1)
    else:
        raise AssertionError("the helper is still there")


def test_results_of_work_that_hid_the_stop_do_not_count(store: Path) -> None:
    process, helper = _start(store, SWALLOWED)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err.splitlines()[-1]) == (130, "memberscope: stopped by SIGINT; what was finished is saved")
    assert "KILLED" in _statuses(store / "mlflow.db")
    os.kill(helper, signal.SIGKILL)
