"""Execution of units on this machine: in threads, for frameworks that release the GIL, or in worker processes."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from memberscope.errors import Interrupted, UserError
from memberscope.training.execution.work import Inputs, JobFailed, Spec, Unit, UnitProgram, Work

DEATHS = 3  # a unit is given up after this many workers died while training it
POLL_SECONDS = 0.2  # between two checks of the stop flag
PARENT_SECONDS = 1.0  # between two looks of a worker whether its parent is alive

Finished = Generator[tuple[Unit, list[Any]], None, None]


def in_threads(
    work: Work, units: Sequence[Unit], *, threads: int, advance: Callable[[int], None], check: Callable[[], None]
) -> Finished:
    """Train `threads` units at a time; yields each when it is finished.

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
        trained = program.train(unit, between_steps)
        with lock:
            programs.append(program)
        return trained

    with ThreadPoolExecutor(max_workers=min(threads, len(units))) as pool:
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
    x: str
    spec: Spec


@lru_cache(maxsize=1)
def _open(folder: Folder) -> Work:
    path = Path(folder.path)
    x = np.load(folder.x, mmap_mode="r", allow_pickle=False)
    y = np.load(path / "y.npy", allow_pickle=False)
    return folder.spec.work(x, y)


@lru_cache(maxsize=1)
def _compiled(folder: Folder, models: int) -> UnitProgram:
    """The compiled program, made once for all units that this process trains."""
    work = _open(folder)
    program = work.program(models, work.shared())
    # what the libraries made stays; a program that looks for garbage after each model need not look there again
    gc.collect()
    gc.freeze()
    return program


def start_worker(spec: Spec, places: str) -> None:
    """Initialize a worker process: leave Ctrl-C to its parent, end with it, take a place, and do what the trainer requires.

    Args:
        spec: the training.
        places: a folder in which each worker of the pool holds the lock of a file with its number, the lowest that is free.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # loky's own method is the default in its workers, and processes that a user's function starts by "spawn" do not know it: they die
    # at once, and a pool of them starts new ones for ever
    multiprocessing.set_start_method(None, force=True)
    parent = os.getppid()

    def end_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_SECONDS)
        os._exit(1)  # the parent was killed: nobody would receive the result

    threading.Thread(target=end_with_parent, daemon=True).start()
    spec.begin_worker(_take_place(Path(places)))


def _take_place(places: Path) -> int:
    """The lowest place that no living worker of the pool holds; it is this process's until it ends, however it ends."""
    import fcntl  # absent on Windows, where nothing trains in processes

    for place in itertools.count():
        held = os.open(places / str(place), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
        else:
            return place
    raise AssertionError("there are endlessly many places")


def work_on(unit: Unit, folder: Folder) -> list[Any]:
    """Train a unit in a worker process; JobFailed for a mistake of the user."""
    try:
        return _compiled(folder, len(unit.members)).train(unit, lambda steps: None)
    except JobFailed:
        raise
    except UserError as error:  # raised again in a form that can be sent to the parent
        raise JobFailed(str(error)) from None


def in_processes(
    work: Work, units: Sequence[Unit], *, workers: int, advance: Callable[[int], None], check: Callable[[], None]
) -> Finished:
    """Train units in worker processes; yields each when it is finished.

    If a worker dies, the pool breaks; a new pool is made, and the units that were lost are trained again.

    Raises:
        JobFailed: a unit failed; the units that were being trained at that time have been yielded.
        UserError: `DEATHS` workers died while training the same unit.
    """
    from joblib.externals.loky import ProcessPoolExecutor

    todo, deaths = deque(units), dict.fromkeys((unit.positions for unit in units), 0)
    failed: JobFailed | None = None
    with tempfile.TemporaryDirectory(prefix="memberscope-") as path:
        folder = _written(Path(path), work)
        while todo:
            size = min(workers, len(todo))
            places = tempfile.mkdtemp(prefix="places-", dir=path)
            pool = ProcessPoolExecutor(
                max_workers=size,
                initializer=start_worker,
                initargs=(work.spec, places),
                env=dict(work.spec.environment(workers)),
            )
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
                        try:
                            trained = future.result()  # raises if a worker died
                        except JobFailed as error:
                            del running[future]
                            failed = failed or error
                            todo.clear()  # what is running may finish, and is kept; nothing new is begun
                            continue
                        unit = running.pop(future)
                        advance(unit.steps)
                        yield unit, trained
            except BrokenProcessPool:
                yield from _saved(running, advance)
                lost = _count_deaths(running, deaths, workers)
                if failed is None:
                    todo.extendleft(reversed(lost))
            finally:
                pool.shutdown(wait=True, kill_workers=True)
    if failed is not None:
        raise failed


def _written(path: Path, work: Work) -> Folder:
    """The records as files in a folder; those of a memory-mapped file stay where they are."""
    file = mapped_file(work.x)
    if file is None:
        file = path / "x.npy"
        np.save(file, work.x)
    np.save(path / "y.npy", work.y)
    return Folder(path=str(path), x=str(file), spec=work.spec)


def mapped_file(x: Inputs) -> Path | None:
    """The ``.npy`` file that an array maps from its first to its last element; None for any other array."""
    if not isinstance(x, np.memmap) or x.filename is None or Path(x.filename).suffix != ".npy":
        return None
    whole = np.load(x.filename, mmap_mode="r", allow_pickle=False)
    same = (whole.shape, whole.dtype, whole.offset) == (x.shape, x.dtype, x.offset)
    return Path(x.filename) if same and whole.flags.c_contiguous == x.flags.c_contiguous else None


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
            f"finished models are kept; allowed: {'fewer workers, or ' if workers > 1 else ''}a smaller model"
        )
    return lost
