"""The number of cores that may be used, and work in threads on them."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import lru_cache
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@lru_cache(maxsize=1)
def _libraries(modules: int) -> ThreadpoolController:
    """The loaded libraries that have threads of their own. Finding them takes 4 ms or more, so it is done again only after imports."""
    del modules
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _limited(modules: int, user_api: str) -> AbstractContextManager[object]:
    """A block in which these libraries keep to one thread. At its end, a limit of all libraries would restore those of others, too."""
    limit: AbstractContextManager[object] = _libraries(modules).select(user_api=user_api).limit(limits=1)
    return limit


class _BlasLimit:
    """Keeps linear algebra to one thread in blocks that may overlap in several threads: the last to end restores what the first one found.

    The number of threads belongs to the whole process. Libraries that were loaded since a block began are limited when the next one begins.
    """

    def __init__(self) -> None:
        self._lock, self._blocks, self._modules, self._limits = threading.Lock(), 0, 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            modules = len(sys.modules)
            if not self._blocks or modules != self._modules:
                self._limits.enter_context(_limited(modules, "blas"))
                self._modules = modules
            self._blocks += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._blocks -= 1
            if not self._blocks:
                self._limits.close()


_BLAS_LIMIT = _BlasLimit()


@contextmanager
def one_thread(user_api: Literal["blas", "openmp"] | None = None) -> Iterator[None]:
    """Keep linear algebra, OpenMP or both to the calling thread, in a block or, as a decorator, in each call of a function.

    OpenMP's limit holds for the calling thread alone, that of linear algebra for all.
    """
    with ExitStack() as limits:
        if user_api != "openmp":
            limits.enter_context(_BLAS_LIMIT)
        if user_api != "blas":
            limits.enter_context(_limited(len(sys.modules), "openmp"))
        yield


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep linear algebra to the calling thread, in a block or, as a decorator, in each call of a function.

    The products of an audit are small: its threads would wait for work most of the time, which they do by spinning, and took up to a
    quarter of an audit's processor time. When such a block ends, BLAS's threads spin for a tenth of a second, so that one block around all
    parts of an audit is better than one around each. With one thread, sums also come out the same for any number of cores.
    """
    with one_thread("blas"):
        yield


def in_threads(task: Callable[[Item], Result], items: Iterable[Item], *, workers: int | None) -> list[Result]:
    """The results of a task for each item, in their order, from at most `workers` threads; None for all cores.

    joblib looks for results every hundredth of a second, which is half of the time of a few short tasks. A task's exception is raised
    when all have ended; Ctrl-C waits for no task that is running.
    """
    given = list(items)
    threads = min(workers or cores(), len(given))
    if threads <= 1:
        return [task(item) for item in given]
    with ThreadPool(threads) as pool:
        return pool.map(task, given, chunksize=1)
