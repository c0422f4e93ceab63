"""Workers of a pool hold places, by which accelerators are handed out; a worker that was killed leaves its place to its successor."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

TAKE = """
import sys, time
from pathlib import Path
from memberscope.training.execution.local import _take_place
print(_take_place(Path(sys.argv[1])), flush=True)
time.sleep(60)
"""


def _take(places: Path) -> tuple[subprocess.Popen[str], int]:
    worker = subprocess.Popen([sys.executable, "-c", TAKE, str(places)], stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    return worker, int(worker.stdout.readline())


def test_a_place_is_free_again_when_its_worker_was_killed(tmp_path: Path) -> None:
    workers = [_take(tmp_path) for _ in range(3)]
    try:
        assert [place for _, place in workers] == [0, 1, 2]
        workers[1][0].send_signal(signal.SIGKILL)
        workers[1][0].wait(30)
        workers.append(_take(tmp_path))
        assert workers[-1][1] == 1  # the first to start anew, and not a fourth device that does not exist
    finally:
        for worker, _ in workers:
            worker.kill()
            worker.wait(30)
            assert worker.stdout is not None
            worker.stdout.close()
