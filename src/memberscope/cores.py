"""The number of cores that may be used."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keep linear algebra to the calling thread, in a block or, as a decorator, in each call of a function.

    The products of an audit are small: its threads would wait for work most of the time, which they do by spinning, and took up to a
    quarter of an audit's processor time. With one thread, sums also come out the same for any number of cores.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1, user_api="blas"):
        yield
