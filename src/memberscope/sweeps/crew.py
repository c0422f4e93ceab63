"""The worker processes of a sweep on this machine: begun with their share of threads, replaced when they die, ended with the parent."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from memberscope.cores import cores
from memberscope.interrupt import StopFlag

MODULE = "memberscope.sweep_worker"
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 30.0  # for a worker to give its trial back
REPLACEMENTS = 3  # a worker's place is filled so often again


def thread_environment(workers: int) -> dict[str, str]:
    """The environment of one of several workers: its share of the cores for every library that has threads of its own."""
    share = str(max(1, cores() // workers))
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
    source = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH", "")])])
    return {**os.environ, **dict.fromkeys(names, share), "TF_NUM_INTEROP_THREADS": "1", "PYTHONPATH": path}


def run_crew(jobs: Sequence[Path], stop: StopFlag, *, on_poll: Callable[[], None]) -> None:
    """Run a worker process a job file, and wait for all of them.

    Args:
        jobs: see `memberscope.sweep_worker`.
        stop: asks the workers to give back what they have.
        on_poll: called twice a second.

    Raises:
        Interrupted: `stop` was set; the workers are gone.
        RuntimeError: workers died more often than they are replaced.
    """
    environment = thread_environment(len(jobs))

    def begin(job: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", MODULE, str(job)], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )

    crew = {job: begin(job) for job in jobs}
    left = REPLACEMENTS * len(jobs)
    try:
        while crew:
            time.sleep(POLL_SECONDS)
            stop.check()
            on_poll()
            for job, process in list(crew.items()):
                code = process.poll()
                if code is None:
                    continue
                del crew[job]
                if code == 0:
                    continue
                if left == 0:
                    raise RuntimeError(f"workers died {REPLACEMENTS * len(jobs) + 1} times, the last with exit code {code}")
                left -= 1
                crew[job] = begin(job)
    finally:
        dismiss(list(crew.values()))


def dismiss(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ask processes to stop, and end those that do not within `PATIENCE_SECONDS`."""
    for process in processes:
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + PATIENCE_SECONDS
    for process in processes:
        try:
            process.wait(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
