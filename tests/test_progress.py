from __future__ import annotations

import io

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


def test_a_bar_on_a_terminal() -> None:
    stream = _Terminal()
    with progress.Progress(2, "train", stream=stream) as bar:
        bar.advance(2)
    assert stream.getvalue().startswith("\r")
    assert stream.getvalue().endswith("\n")
    assert "100%" in stream.getvalue()
