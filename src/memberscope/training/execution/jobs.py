"""The worker processes of a sweep on this machine: begun with their share of threads, replaced when they die, ended with the parent."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from memberscope.cores import cores
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag

READY = ".ready"  # a worker puts a file of this suffix beside its job's once it can claim trials
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 30.0  # for a worker to give its trial back
REPLACEMENTS = 3  # a worker's place is filled so often again
FALSE_STARTS = 3  # after so many workers that end before they are ready, others would not start either
PREFIX = "memberscope: "  # of the line with which our programs end on an error


def thread_environment(workers: int) -> dict[str, str]:
    """The environment of one of several workers: its share of the cores for every library that has threads of its own."""
    share = str(max(1, cores() // workers))
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
    source = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH", "")])])
    return {**os.environ, **dict.fromkeys(names, share), "TF_NUM_INTEROP_THREADS": "1", "PYTHONPATH": path}


class WorkerOutput(Exception):
    """What a worker wrote to stderr before it ended; chained as the cause of the error that quotes its last line."""


@dataclass(kw_only=True)
class Worker:
    """A worker process and what it writes to stderr: kept back until the worker is ready, passed on from then on.

    If workers cannot start, the user sees one line, not a traceback from each of them.
    """

    job: Path
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    reader: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        """Start the process, and begin to read what it writes."""
        assert self.process.stderr is not None
        self.reader = threading.Thread(target=self._read, args=(self.process.stderr,), daemon=True)
        self.reader.start()

    @property
    def ready(self) -> bool:
        """Has it got as far as claiming trials?"""
        return self.job.with_suffix(READY).exists()

    @property
    def last_line(self) -> str:
        """The last line it wrote that is not empty."""
        return next((line.strip() for line in reversed(self.lines) if line.strip()), "it wrote nothing")

    def _read(self, stream: IO[str]) -> None:
        shown = 0
        with stream:
            for line in stream:
                self.lines.append(line)
                if self.ready:
                    sys.stderr.write("".join(self.lines[shown:]))
                    shown = len(self.lines)


def run_workers(jobs: Sequence[Path], stop: StopFlag, *, module: str, on_poll: Callable[[int], None]) -> None:
    """Run a worker process a job file, and wait for all of them.

    Args:
        jobs: a file per worker, which says what it is to do.
        stop: asks the workers to give back what they have.
        module: the program of a worker, which is given its job's file.
        on_poll: called twice a second with how many workers are still starting.

    Raises:
        Interrupted: `stop` was set; the workers are gone.
        UserError: no worker could start, for a reason that the user can fix; it quotes the last worker's own message.
        RuntimeError: no worker could start for another reason, or workers died more often than they are replaced.
    """
    environment = thread_environment(len(jobs))

    def begin(job: Path) -> Worker:
        job.with_suffix(READY).unlink(missing_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(job)], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, errors="replace",
        )  # fmt: skip
        return Worker(job=job, process=process)

    workers_by_job = {job: begin(job) for job in jobs}
    left, false_starts, served = REPLACEMENTS * len(jobs), 0, False
    try:
        while workers_by_job:
            time.sleep(POLL_SECONDS)
            stop.check()
            on_poll(sum(not worker.ready for worker in workers_by_job.values()))
            for job, worker in list(workers_by_job.items()):
                code = worker.process.poll()
                if code is None:
                    continue
                worker.reader.join(timeout=POLL_SECONDS)
                del workers_by_job[job]
                if code == 0:
                    served = True
                elif not worker.ready:
                    false_starts += 1
                    if false_starts < FALSE_STARTS:
                        workers_by_job[job] = begin(job)
                    elif not workers_by_job and not served:  # workers that did start go on without this one
                        raise _no_start(worker, code, false_starts) from WorkerOutput("".join(worker.lines))
                elif left == 0:
                    raise RuntimeError(
                        f"workers died {REPLACEMENTS * len(jobs) + 1} times, the last with exit code {code}: {worker.last_line}"
                    ) from WorkerOutput("".join(worker.lines))
                else:
                    left -= 1
                    workers_by_job[job] = begin(job)
    finally:
        dismiss([worker.process for worker in workers_by_job.values()])
        for worker in workers_by_job.values():
            worker.reader.join(timeout=POLL_SECONDS)


def _no_start(worker: Worker, code: int, times: int) -> Exception:
    """The error for workers that cannot start: a UserError if the worker's exit code says that the user can fix it."""
    if code == UserError.exit_code:
        return UserError(worker.last_line.removeprefix(PREFIX))
    return RuntimeError(
        f"workers ended {times} times before they could start, the last with exit code {code}: {worker.last_line}"
    )


def dismiss(processes: Sequence[subprocess.Popen[str]]) -> None:
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
