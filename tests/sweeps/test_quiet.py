"""Optuna is silenced for blocks that overlap in several threads, and then as loud as before."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator

import pytest

optuna = pytest.importorskip("optuna")

from memberscope.overlapping import Overlapping  # noqa: E402  # after the skip where there is no Optuna
from memberscope.sweeps.silence import errors_alone, quiet  # noqa: E402  # as above


@pytest.fixture(autouse=True)
def verbosity() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.INFO)
    yield
    optuna.logging.set_verbosity(before)


def experiment() -> None:
    warnings.warn("experimental", optuna.exceptions.ExperimentalWarning, stacklevel=2)


def test_the_first_of_two_overlapping_blocks_to_end_leaves_the_other_silent() -> None:
    """In threads, as heartbeats overlap with a worker's own requests."""
    filters = list(warnings.filters)
    begun, ended = threading.Event(), threading.Event()

    def other() -> None:
        with quiet:
            begun.set()
            ended.wait(30)

    thread = threading.Thread(target=other)
    thread.start()
    assert begun.wait(30)
    with quiet:
        ended.set()
        thread.join(30)
        experiment()  # an error in these tests, if the filters were those of before
        assert optuna.logging.get_verbosity() == optuna.logging.ERROR
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
    assert warnings.filters == filters
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        experiment()


def test_blocks_may_be_nested_and_fail() -> None:
    with pytest.raises(RuntimeError), errors_alone, quiet, quiet:
        raise RuntimeError
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
    with errors_alone:
        with quiet:
            experiment()
        assert optuna.logging.get_verbosity() == optuna.logging.ERROR
    assert optuna.logging.get_verbosity() == optuna.logging.INFO


def test_a_context_that_cannot_be_entered_is_tried_by_the_next_block() -> None:
    tried: list[int] = []

    def failing() -> threading.Lock:
        tried.append(1)
        if len(tried) == 1:
            raise OSError("the first time")
        return threading.Lock()

    shared = Overlapping(failing)  # type: ignore[arg-type]  # a lock is entered as a context is
    with pytest.raises(OSError, match="the first time"), shared:
        pass
    with shared:
        assert len(tried) == 2
