"""A study looks for garbage less often, and leaves the process's own settings as they were."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest

from memberscope import cli
from memberscope.garbage import CONTAINERS, seldom_collected


@pytest.fixture(autouse=True)
def thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize(
    ("own", "inside"), [(700, CONTAINERS), (0, 0), (50_000, 50_000)], ids=["default", "off", "less often already"]
)
def test_thresholds_hold_for_the_block(own: int, inside: int) -> None:
    gc.set_threshold(own, 10, 10)
    with seldom_collected:
        with seldom_collected:
            assert gc.get_threshold()[0] == inside
        assert gc.get_threshold()[0] == inside
    assert gc.get_threshold()[0] == own


def test_a_block_that_fails_restores_them() -> None:
    gc.set_threshold(700, 10, 10)
    with pytest.raises(RuntimeError), seldom_collected:
        raise RuntimeError
    assert gc.get_threshold()[0] == 700


def test_thresholds_are_restored_after_blocks_that_overlapped() -> None:
    """As two evaluations in threads do: by itself, the second would put the first one's thresholds back for good."""
    gc.set_threshold(700, 10, 10)
    begun, ended = threading.Event(), threading.Event()

    def other() -> None:
        with seldom_collected:
            begun.set()
            ended.wait(30)

    with seldom_collected:
        thread = threading.Thread(target=other)
        thread.start()
        assert begun.wait(30)
    assert gc.get_threshold()[0] == CONTAINERS
    ended.set()
    thread.join(30)
    assert gc.get_threshold()[0] == 700


def test_garbage_is_still_found() -> None:
    gc.collect()
    gc.set_threshold(700, 10, 10)
    with seldom_collected:
        found = gc.get_stats()[0]["collected"]
        for _ in range(3 * CONTAINERS):
            one: list[object] = []
            one.append(one)
        assert gc.get_stats()[0]["collected"] - found > CONTAINERS


def test_an_entry_point_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.set_threshold(700, 10, 10)
    seen: list[int] = []
    monkeypatch.setattr(cli, "_run", lambda name, arguments: seen.append(gc.get_threshold()[0]) or 0)
    assert cli.run_study("train", []) == 0
    assert (seen, gc.get_threshold()[0]) == ([CONTAINERS], 700)
