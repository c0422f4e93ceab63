"""A run's time by stage: each second counts once."""

from __future__ import annotations

import time

import pytest

from memberscope.clock import PROCESSOR_SECONDS, SECONDS, Clock, Stage


@pytest.fixture
def ticks(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The present time, which a test moves."""
    now = {"wall": 100.0, "processor": 7.0}
    monkeypatch.setattr(time, "perf_counter", lambda: now["wall"])
    monkeypatch.setattr(time, "process_time", lambda: now["processor"])
    return now


def test_a_stage_within_another_stops_the_outer_one(ticks: dict[str, float]) -> None:
    clock = Clock()
    with clock.stage(Stage.INTERVALS):
        ticks["wall"] += 2
        with clock.stage(Stage.ATTACKS):
            ticks["wall"], ticks["processor"] = ticks["wall"] + 5, ticks["processor"] + 4
        ticks["wall"] += 1
    ticks["wall"] += 50  # outside of any stage
    with clock.stage(Stage.ATTACKS):
        ticks["wall"] += 0.5
    assert clock.wall == {Stage.INTERVALS: 3.0, Stage.ATTACKS: 5.5}
    assert clock.processor == {Stage.INTERVALS: 0.0, Stage.ATTACKS: 4.0}


def test_a_stage_that_fails_is_counted_and_left(ticks: dict[str, float]) -> None:
    clock = Clock()

    def fail() -> None:
        with clock.stage(Stage.MODEL):
            ticks["wall"] += 1
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    ticks["wall"] += 9
    assert clock.metrics() == {f"{SECONDS}/model": 1.0, f"{PROCESSOR_SECONDS}/model": 0.0}


def test_metrics_hold_what_a_running_stage_took_so_far_and_no_stage_that_was_not_entered(ticks: dict[str, float]) -> None:
    clock = Clock()
    with clock.stage(Stage.TRACKING):
        ticks["wall"] += 0.12345
        assert clock.metrics()["seconds/tracking"] == 0.123
        assert set(clock.metrics()) == {"seconds/tracking", "processor_seconds/tracking"}
