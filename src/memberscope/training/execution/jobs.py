"""The worker processes of a sweep on this machine: started with a share of the threads, replaced if they die, stopped with the parent."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from memberscope.cores import cores
from memberscope.errors import UserError
from memberscope.interrupt import StopFlag
from memberscope.redact import redact

READY = ".ready"  # suffix of the file that a worker creates beside its job file once it can claim trials
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 30.0  # time in which a worker must give its trial back
REPLACEMENTS = 3  # how many times a dead worker is replaced, per job file
FALSE_STARTS = 3  # after this many workers that ended before they were ready, no more are started
PREFIX = "memberscope: "  # of the line that our programs print on an error


def thread_environment(workers: int) -> dict[str, str]:
    """The environment of each of several workers, which limits every library with threads of its own to the worker's share of cores."""
    share = str(max(1, cores() // workers))
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
    source = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH", "")])])
    return {**os.environ, **dict.fromkeys(names, share), "TF_NUM_INTEROP_THREADS": "1", "PYTHONPATH": path}


class WorkerOutput(Exception):
    """The text that a worker wrote to stderr before it ended; chained as the cause of the error that quotes its last line."""


@dataclass(kw_only=True)
class Worker:
    """A worker process and its stderr, which is held back until the worker is ready and passed on from then on.

    If workers cannot start, the user sees one line, not a traceback from each of them.
    """

    job: Path
    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)
    reader: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        """Start to read the stderr of the process."""
        assert self.process.stderr is not None
        self.reader = threading.Thread(target=self._read, args=(self.process.stderr,), daemon=True)
        self.reader.start()

    @property
    def ready(self) -> bool:
        """Whether the worker is able to claim trials."""
        return self.job.with_suffix(READY).exists()

    @property
    def last_line(self) -> str:
        """The last non-empty line that it wrote."""
        return next((line.strip() for line in reversed(self.lines) if line.strip()), "no output")

    def _read(self, stream: IO[str]) -> None:
        shown = 0
        with stream:
            for line in stream:
                self.lines.append(redact(line))
                if self.ready:
                    sys.stderr.write("".join(self.lines[shown:]))
                    shown = len(self.lines)


def run_workers(
    jobs: Sequence[Path],
    stop: StopFlag,
    *,
    module: str,
    on_poll: Callable[[int], None],
    secrets: Mapping[str, str] | None = None,
) -> None:
    """Run a worker process for each job file, and wait for all of them.

    Args:
        jobs: paths of job files, one per worker.
        stop: once it is set, the workers are told to return their trials.
        module: the program of a worker, run with the path of its job file.
        on_poll: called twice a second with the number of workers that are still starting.
        secrets: environment variables for the workers, for what must not be in their job files.

    Raises:
        Interrupted: `stop` was set; the workers have ended.
        UserError: no worker could start, for a reason that the user can fix; it quotes the last worker's own message.
        RuntimeError: no worker could start for another reason, or workers died more often than they are replaced.
    """
    environment = {**thread_environment(len(jobs)), **(secrets or {})}

    def start(job: Path) -> Worker:
        job.with_suffix(READY).unlink(missing_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-m", module, str(job)], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, errors="replace",
        )  # fmt: skip
        return Worker(job=job, process=process)

    workers_by_job = {job: start(job) for job in jobs}
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
                        workers_by_job[job] = start(job)
                    elif not workers_by_job and not served:  # workers that did start continue without this one
                        raise _no_start(worker, code, false_starts) from WorkerOutput("".join(worker.lines))
                elif left == 0:
                    raise RuntimeError(
                        f"workers died {REPLACEMENTS * len(jobs) + 1} times, the last with exit code {code}: {worker.last_line}"
                    ) from WorkerOutput("".join(worker.lines))
                else:
                    left -= 1
                    workers_by_job[job] = start(job)
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
    """Terminate processes, and kill those that do not end within `PATIENCE_SECONDS`."""
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
