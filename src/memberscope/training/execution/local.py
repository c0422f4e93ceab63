"""Execution of units on this machine: in threads, for frameworks that release the GIL, or in worker processes."""

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
from memberscope.training.execution.work import Spec, Unit, UnitProgram, Work

DEATHS = 3  # a unit is given up after this many workers died while training it
POLL_SECONDS = 0.2  # between two checks of the stop flag

Finished = Generator[tuple[Unit, list[Any]], None, None]


def in_threads(work: Work, units: Sequence[Unit], *, advance: Callable[[int], None], check: Callable[[], None]) -> Finished:
    """Train as many units at a time as there are cores; yields each when it is finished.

    While one group's program waits for a small kernel, another's keeps the cores busy.
    """
    x = work.shared()
    idle: dict[int, list[UnitProgram]] = {}
    lock, ended = threading.Lock(), threading.Event()

    def between_steps(steps: int) -> None:
        if ended.is_set():
            raise Interrupted("the training of another unit was stopped or failed")
        check()
        advance(steps)

    def train(unit: Unit) -> list[Any]:
        models = len(unit.members)
        with lock:
            programs = idle.setdefault(models, [])
            program = programs.pop() if programs else work.program(models, x)
        trained = program.train(unit.members, unit.seeds, between_steps)
        with lock:
            programs.append(program)
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
    """The folder from which a worker process loads the `Work`: arrays are memory-mapped from files, not sent with every task."""

    path: str
    spec: Spec


@lru_cache(maxsize=1)
def _open(folder: Folder) -> Work:
    path = Path(folder.path)
    return folder.spec.work(np.load(path / "x.npy", mmap_mode="r"), np.load(path / "y.npy"))


@lru_cache(maxsize=1)
def _compiled(folder: Folder, models: int) -> UnitProgram:
    """The compiled program, made once for all units that this process trains."""
    work = _open(folder)
    return work.program(models, work.shared())


def start_worker(spec: Spec) -> None:
    """Initialize a worker process: leave Ctrl-C to its parent, and do what the trainer requires."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    spec.begin_worker()


def work_on(unit: Unit, folder: Folder) -> list[Any]:
    """Train a unit in a worker process."""
    return _compiled(folder, len(unit.members)).train(unit.members, unit.seeds, lambda steps: None)


def in_processes(
    work: Work, units: Sequence[Unit], *, workers: int, advance: Callable[[int], None], check: Callable[[], None]
) -> Finished:
    """Train units in worker processes; yields each when it is finished.

    If a worker dies, the pool breaks; a new pool is made, and the units that were lost are trained again.

    Raises:
        UserError: `DEATHS` workers died while training the same unit.
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
                    while (
                        todo and len(running) < size
                    ):  # no more than there are workers, so that a death is due to one of few units
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
                todo.extendleft(reversed(_count_deaths(running, deaths, workers)))
            finally:
                pool.shutdown(wait=True, kill_workers=True)


def _saved(running: dict[Future[list[Any]], Unit], advance: Callable[[int], None]) -> Finished:
    """Yield the units that were finished when the pool broke, and remove them from `running`."""
    for future, unit in list(running.items()):
        if future.done() and future.exception() is None:
            del running[future]
            advance(unit.steps)
            yield unit, future.result()


def _count_deaths(running: dict[Future[list[Any]], Unit], deaths: dict[tuple[int, ...], int], workers: int) -> list[Unit]:
    """Count a death for each running unit; returns these units, which must be trained again."""
    lost = list(running.values())
    for unit in lost:
        deaths[unit.positions] += 1
    if any(deaths[unit.positions] >= DEATHS for unit in lost):
        names = ", ".join(str(position) for unit in lost for position in unit.positions)
        raise UserError(
            f"workers={workers}: worker processes died {DEATHS} times while training model {names}, as happens when memory runs out; "
            "finished models are kept; allowed: fewer workers, or a smaller model"
        )
    return lost
