"""Turns at a store: one holder at a time, over as soon as its process ends, and never waited for without end."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from memberscope.errors import UserError
from memberscope.turns import turn

ROOT = Path(__file__).resolve().parent.parent
HOLD = (
    "import time\nfrom memberscope.turns import turn\nwith turn({what!r}):\n    print('mine', flush=True)\n    time.sleep(600)"
)


def test_a_turn_is_waited_for_and_ends_with_its_process(tmp_path: Path) -> None:
    what = str(tmp_path / "mlflow.db")
    holder = subprocess.Popen([sys.executable, "-c", HOLD.format(what=what)], cwd=ROOT / "src", stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"mine\n"
        start = time.monotonic()
        with pytest.raises(UserError, match=r"another process has been preparing it for 0.3 s"), turn(what, patience=0.3):
            raise AssertionError("two at once")
        assert 0.3 <= time.monotonic() - start < 5
        with turn(what + "2", patience=0.3):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with turn(what, patience=5):
        pass
