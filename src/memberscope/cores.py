"""The number of cores that may be used, and work in threads on them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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


@contextmanager
def one_thread(user_api: Literal["blas", "openmp"] | None = None) -> Iterator[None]:
    """Keep linear algebra, OpenMP or both to the calling thread, in a block or, as a decorator, in each call of a function.

    OpenMP's limit holds for the calling thread alone, that of linear algebra for all.
    """
    with _libraries(len(sys.modules)).limit(limits=1, user_api=user_api):
        yield


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep linear algebra to the calling thread, in a block or, as a decorator, in each call of a function.

    The products of an audit are small: its threads would wait for work most of the time, which they do by spinning, and took up to a
    quarter of an audit's processor time. They also spin for a tenth of a second when such a block ends, so that one block around all parts
    of an audit is better than one around each. With one thread, sums also come out the same for any number of cores.
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
