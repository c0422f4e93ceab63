"""Units on this machine: in threads, for frameworks that leave Python's lock, or in processes of their own."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from memberscope.cores import cores
from memberscope.errors import Interrupted, UserError
from memberscope.training.execution.work import Program, Spec, Unit, Work

DEATHS = 3  # so many workers may die over a unit before it is given up
POLL_SECONDS = 0.2  # between two looks at the stop flag

Finished = Generator[tuple[Unit, list[Any]], None, None]


def in_threads(work: Work, units: Sequence[Unit], *, advance: Callable[[int], None], check: Callable[[], None]) -> Finished:
    """Train as many units at a time as there are cores; yields each as it is finished.

    While one group's program waits for a small kernel, another's keeps the cores busy.
    """
    x = work.shared()
    idle: dict[int, list[Program]] = {}
    lock, ended = threading.Lock(), threading.Event()

    def between_steps(steps: int) -> None:
        if ended.is_set():
            raise Interrupted("another group has ended the work")
        check()
        advance(steps)

    def train(unit: Unit) -> list[Any]:
        models = len(unit.members)
        with lock:
            ready = idle.setdefault(models, [])
            own = ready.pop() if ready else work.program(models, x)
        trained = own.train(unit.members, unit.seeds, between_steps)
        with lock:
            ready.append(own)
        return trained

    with ThreadPoolExecutor(max_workers=min(cores(), len(units))) as pool:
        futures = {pool.submit(train, unit): unit for unit in units}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            ended.set()
            pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, kw_only=True)
class Folder:
    """Where a worker process finds what `Work` holds: the arrays are mapped from files, not sent with every task."""

    path: str
    spec: Spec


@lru_cache(maxsize=1)
def _open(folder: Folder) -> Work:
    path = Path(folder.path)
    return folder.spec.work(np.load(path / "x.npy", mmap_mode="r"), np.load(path / "y.npy"))


@lru_cache(maxsize=1)
def _compiled(folder: Folder, models: int) -> Program:
    """Made once for all units that this process is given."""
    work = _open(folder)
    return work.program(models, work.shared())


def start_worker(spec: Spec) -> None:
    """What a worker process does first: leave Ctrl-C to its parent, and whatever its trainer wants."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    spec.begin_worker()


def work_on(unit: Unit, folder: Folder) -> list[Any]:
    """Train a unit in a worker process."""
    return _compiled(folder, len(unit.members)).train(unit.members, unit.seeds, lambda steps: None)


def in_processes(
    work: Work, units: Sequence[Unit], *, workers: int, advance: Callable[[int], None], check: Callable[[], None]
) -> Finished:
    """Train units in worker processes; yields each as it is finished.

    A worker that dies takes the pool with it; a new one is made and the units that were lost are given out again.

    Raises:
        UserError: workers died `DEATHS` times over the same unit.
    """
    from joblib.externals.loky import ProcessPoolExecutor

    todo, deaths = deque(units), dict.fromkeys((unit.positions for unit in units), 0)
    quiet = {"TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3")}
    with tempfile.TemporaryDirectory(prefix="memberscope-") as path:
        np.save(Path(path) / "x.npy", work.x)
        np.save(Path(path) / "y.npy", work.y)
        folder = Folder(path=path, spec=work.spec)
        while todo:
            size = min(workers, len(todo))
            pool = ProcessPoolExecutor(max_workers=size, initializer=start_worker, initargs=(work.spec,), env=quiet)
            running: dict[Future[list[Any]], Unit] = {}
            try:
                while todo or running:
                    while todo and len(running) < size:  # no more than are at work, so that a death points at few units
                        running[pool.submit(work_on, todo[0], folder)] = todo[0]
                        todo.popleft()
                    done, _ = wait(running, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
                    check()
                    for future in done:
                        trained = future.result()  # raises if a worker died
                        unit = running.pop(future)
                        advance(unit.steps)
                        yield unit, trained
            except BrokenProcessPool:
                yield from _saved(running, advance)
                todo.extendleft(reversed(_bury(running, deaths, workers)))
            finally:
                pool.shutdown(wait=True, kill_workers=True)


def _saved(running: dict[Future[list[Any]], Unit], advance: Callable[[int], None]) -> Finished:
    """Units that were finished when the pool broke; they leave `running`."""
    for future, unit in list(running.items()):
        if future.done() and future.exception() is None:
            del running[future]
            advance(unit.steps)
            yield unit, future.result()


def _bury(running: dict[Future[list[Any]], Unit], deaths: dict[tuple[int, ...], int], workers: int) -> list[Unit]:
    """Count a death for each unit that was at work; those are to be given out again."""
    lost = list(running.values())
    for unit in lost:
        deaths[unit.positions] += 1
    if any(deaths[unit.positions] >= DEATHS for unit in lost):
        names = ", ".join(str(position) for unit in lost for position in unit.positions)
        raise UserError(
            f"workers={workers}: worker processes died {DEATHS} times over model {names}, as they do when memory runs out; "
            "what was finished is kept; allowed: fewer workers, or a smaller model"
        )
    return lost
