"""Work in threads."""

from __future__ import annotations

import sys
import threading
import types
from typing import Literal

import pytest

from memberscope.cores import in_threads, one_blas_thread, one_thread


@pytest.mark.parametrize("workers", [1, 2, 5, None])
def test_results_are_in_the_order_of_the_items(workers: int | None) -> None:
    assert in_threads(lambda item: 2 * item, range(20), workers=workers) == list(range(0, 40, 2))
    assert in_threads(str, [], workers=workers) == []


def test_as_many_tasks_run_at_a_time_as_there_are_workers() -> None:
    both = threading.Barrier(2)
    assert in_threads(lambda item: both.wait(10) in (0, 1), range(4), workers=2) == [True] * 4
    seen = set(in_threads(lambda item: threading.get_ident(), range(4), workers=1))
    assert seen == {threading.get_ident()}


def test_a_failure_is_raised() -> None:
    def task(item: int) -> float:
        return 1 / (item - 2)

    for workers in (1, 2):
        with pytest.raises(ZeroDivisionError):
            in_threads(task, range(4), workers=workers)


def _blas_threads() -> set[int]:
    from threadpoolctl import ThreadpoolController

    return {each["num_threads"] for each in ThreadpoolController().info() if each["user_api"] == "blas"}


def test_linear_algebra_keeps_to_one_thread_and_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np
    from threadpoolctl import threadpool_limits

    np.ones((2, 2)) @ np.ones((2, 2))
    with threadpool_limits(limits=2, user_api="blas"):
        before = _blas_threads()
        for limit in (one_thread, one_blas_thread):
            with limit():
                assert _blas_threads() == {1}
                with one_thread("openmp"):
                    assert _blas_threads() == {1}
            assert _blas_threads() == before
        monkeypatch.setitem(sys.modules, "imported_in_between", types.ModuleType("imported_in_between"))
        with one_thread():
            assert _blas_threads() == {1}


def test_blocks_that_overlap_in_several_threads_keep_to_one_thread_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first to end must not let the others' libraries go, and the last must not restore what it found."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=2, user_api="blas"):
        before = _blas_threads()
        first, second = one_thread(), one_blas_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert _blas_threads() == {1}
        monkeypatch.setitem(sys.modules, "loaded_in_between", types.ModuleType("loaded_in_between"))
        with one_blas_thread():
            assert _blas_threads() == {1}
        second.__exit__(None, None, None)
        assert _blas_threads() == before == {2}


@pytest.mark.parametrize("first", ["blas", "openmp"])
def test_a_block_gives_back_only_what_it_limited(first: Literal["blas", "openmp"]) -> None:
    """Linear algebra's and OpenMP's blocks may overlap: neither ends the other's, nor leaves it in place."""
    pytest.importorskip("sklearn.cluster")  # loads OpenMP
    from threadpoolctl import ThreadpoolController, threadpool_limits

    def threads(user_api: str) -> set[int]:
        return {each["num_threads"] for each in ThreadpoolController().info() if each["user_api"] == user_api}

    second: Literal["blas", "openmp"] = "openmp" if first == "blas" else "blas"
    with threadpool_limits(limits=2):
        outer, inner = one_thread(first), one_thread(second)
        outer.__enter__()
        inner.__enter__()
        assert threads("blas") == threads("openmp") == {1}
        outer.__exit__(None, None, None)
        assert (threads(first), threads(second)) == ({2}, {1})
        inner.__exit__(None, None, None)
        assert threads("blas") == threads("openmp") == {2}


def test_libraries_are_looked_for_again_only_after_an_import(monkeypatch: pytest.MonkeyPatch) -> None:
    import threadpoolctl

    with one_thread():
        pass
    made: list[str] = []

    class Counted(threadpoolctl.ThreadpoolController):  # type: ignore[misc]  # without types
        def __init__(self) -> None:
            made.append("made")
            super().__init__()

    monkeypatch.setattr(threadpoolctl, "ThreadpoolController", Counted)
    with one_thread(), one_blas_thread():
        pass
    assert made == []
    monkeypatch.setitem(sys.modules, "another", types.ModuleType("another"))
    for _ in range(3):
        with one_thread():
            pass
    assert made == ["made"]
