"""The script notices the end of the process that owns its run, as `mlflow run` ends when it is terminated from outside."""

from __future__ import annotations

import os
import signal as signals
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from memberscope.errors import Interrupted
from memberscope.interrupt import StopFlag
from memberscope.mlflow_adapter import owner as owners

ROOT = Path(__file__).resolve().parents[2]
# what the script does: it says who its owner is, works on until it is stopped, and writes how it ended
SCRIPT = """
import sys, time
from pathlib import Path
from memberscope.errors import Interrupted
from memberscope.interrupt import StopFlag
from memberscope.mlflow_adapter.owner import Watch, find_owner
owner = find_owner()
Path("owner").write_text(str(owner.pid if owner else None))
with StopFlag() as stop, Watch(owner, stop):
    for _ in range(600):
        try:
            stop.check()
        except Interrupted as error:
            Path("end").write_text(str(error))
            sys.exit(130)
        time.sleep(0.1)
"""
# what mlflow run does: bash, which may put itself out of the way, or, with more than one command, not
OWNER = """
import subprocess, sys
process = subprocess.Popen(["bash", "-c", sys.argv[1]])
print(process.pid, flush=True)
sys.exit(process.wait())
"""


def _wait(path: Path, seconds: float = 60) -> str:
    deadline = time.monotonic() + seconds
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, f"{path.name} was not written"
        time.sleep(0.1)
    return path.read_text()


@pytest.mark.parametrize("after", ["", "; true"], ids=["bash-execs", "bash-stays"])
@pytest.mark.parametrize("signal", ["SIGTERM", "SIGKILL"])
def test_a_script_stops_once_its_owner_is_gone(tmp_path: Path, signal: str, after: str) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    command = f"{sys.executable} script.py{after}"
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, command], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert owner.stdout is not None
    child = psutil.Process(int(owner.stdout.readline()))
    try:
        assert _wait(tmp_path / "owner") == str(owner.pid)
        owner.send_signal(getattr(signals, signal))
        owner.communicate()
        assert _wait(tmp_path / "end") == "stopped by the end of mlflow run; what was finished is saved"
    finally:
        for process in [*(child.children(recursive=True) if child.is_running() else []), child, psutil.Process()]:
            if process.pid != os.getpid() and process.is_running():
                process.kill()


def test_a_shell_that_named_a_run_by_hand_is_no_owner(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT.replace("range(600)", "range(1)"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "MLFLOW_RUN_ID": "0" * 32}
    lines = f"{sys.executable} script.py\ntrue\n"  # typed, not given with -c
    subprocess.run(["bash"], input=lines, text=True, cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "owner").read_text() == "None"


def test_nothing_is_missed_where_nobody_owns_the_run_and_an_end_that_was_there_before_is_seen() -> None:
    stop = StopFlag()
    with owners.Watch(None, stop):
        pass
    assert not stop.requested
    gone = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = psutil.Process(gone.pid)
    assert owners.is_alive(process)
    gone.communicate(b"\n")
    assert not owners.is_alive(process)
    with owners.Watch(process, stop):
        pass
    with pytest.raises(Interrupted, match="the end of mlflow run"):
        stop.check()
