from __future__ import annotations

import io
import os
import time

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
