from __future__ import annotations

import io
import os
import time
from collections.abc import Callable

import pytest

from memberscope import progress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_elsewhere_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, *range(1, 12)])
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    stream = io.StringIO()
    with progress.Progress(10, "train", stream=stream) as bar:
        for _ in range(10):
            bar.advance(note="loss 1.0")
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("train:  50% 5/10 steps")
    assert "00:05 left" in lines[0]
    assert "loss 1.0" in lines[0]
    assert len(lines) == 3, "seconds 5 and 10, and the end"
    assert "100% 10/10" in lines[-1]


@pytest.mark.parametrize(("unit", "shown"), [("query", "2/2 queries ["), ("trial", "2/2 trials [")])
def test_the_units_are_in_the_plural(unit: str, shown: str) -> None:
    stream = io.StringIO()
    with progress.Progress(2, "work", unit=unit, stream=stream) as bar:
        bar.advance(2)
    assert shown in stream.getvalue()


def test_a_bar_on_a_terminal() -> None:
    stream = _Terminal()
    with progress.Progress(2, "train", stream=stream) as bar:
        bar.advance(2)
    assert stream.getvalue().startswith("\r")
    assert stream.getvalue().endswith("\n")
    assert "100%" in stream.getvalue()


def test_long_units_show_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.05)
    stream, quiet = io.StringIO(), io.StringIO()
    with (
        progress.Progress(70, "sweep", unit="trial", stream=stream, alive=True) as bar,
        progress.Progress(1, "x", stream=quiet),
    ):
        bar.note = "2 workers are starting"
        deadline = time.monotonic() + 20
        while stream.getvalue().count("\n") < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert quiet.getvalue() == "", "inner bars speak when something is done"
    lines = stream.getvalue().splitlines()
    assert len(lines) >= 4
    assert all(line.startswith("sweep:   0% 0/70 trials") and "2 workers are starting" in line for line in lines)


def test_what_takes_long_before_the_first_unit_is_said_and_what_is_quick_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    with progress.Waiting("reading digits", stream=stream):
        pass
    assert stream.getvalue() == ""
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.05)
    with progress.Waiting("reading digits", stream=stream):
        deadline = time.monotonic() + 20
        while stream.getvalue().count("\n") < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
    assert stream.getvalue().splitlines()[0] == "reading digits [0 s elapsed]"


def test_the_first_line_comes_after_two_seconds_and_no_gap_is_much_longer_than_five(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock of its own, on which a line was shown after 9.5 s for another reason."""
    now, shown = [0.0], list[float]()
    stream = io.StringIO()
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "_write", lambda text, stream: shown.append(now[0]))
    bar = progress.Progress(2, "audit attacks", stream=stream, alive=True)
    waiting = progress.Waiting("reading", stream=stream)
    monkeypatch.setattr(bar, "_ended", _Clock(now, {9.5: lambda: bar._show(9.5)}, end=30.0))
    bar._show_life()
    assert shown == [2.0, 7.0, 9.5, 15.0, 20.0, 25.0]
    now[0] = 0.0
    shown.clear()
    monkeypatch.setattr(waiting, "_ended", _Clock(now, {}, end=16.0))
    waiting._run()
    assert shown == [2.0, 7.0, 12.0]


class _Clock:
    """An event that is never set before the end, whose waits pass on a clock, and what happens on the way."""

    def __init__(self, now: list[float], events: dict[float, Callable[[], None]], *, end: float) -> None:
        self._now, self._events, self._end = now, events, end

    def wait(self, seconds: float) -> bool:
        until = self._now[0] + seconds
        for when in [when for when in self._events if when <= until]:
            self._now[0] = when
            self._events.pop(when)()
        self._now[0] = until
        return until >= self._end


def test_a_reader_who_is_gone_ends_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe whose other end was killed, and a stream that was closed."""
    read, write = os.pipe()
    os.close(read)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with os.fdopen(os.dup(write), "w") as broken:
        with progress.Progress(2, "train", stream=broken) as bar:
            bar.advance()
            bar.advance()
        with pytest.raises(BrokenPipeError):
            print("the pipe is broken indeed", file=broken, flush=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), broken.fileno())  # so that it can be closed
    os.close(write)
    closed = io.StringIO()
    bar = progress.Progress(1, "train", stream=closed)
    closed.close()
    bar.advance()
