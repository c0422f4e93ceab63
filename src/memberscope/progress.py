"""Progress of long work: a bar on a terminal, plain lines every few seconds elsewhere, each with an estimate of what is left.

Where a unit takes long, both can be shown regularly even while no unit is finished, so that the work does not seem to stand still.
Work never fails because its progress cannot be shown, as where the process that read it was killed.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from types import TracebackType
from typing import Self, TextIO

from memberscope.background import Background
from memberscope.redact import redact

LINE_SECONDS = 5.0
FIRST_SECONDS = 2.0  # until the first line of work that shows regular ones
BAR_SECONDS = 0.2
PLAIN = "{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt} {unit} [{elapsed} elapsed, {remaining} left]{postfix}"


class Progress:
    """Counts units of work towards a total; `advance` is cheap and may be called often.

    Args:
        total: the total number of units.
        label: the name of the work.
        unit: the word for one unit.
        stream: where to write; stderr unless given.
        alive: whether to show a line after two seconds, and then every few seconds, even if no unit was finished; meant for the outermost
            of nested ones.
    """

    def __init__(
        self, total: int, label: str, *, unit: str = "step", stream: TextIO | None = None, alive: bool = False
    ) -> None:
        """Start counting, and start the clock."""
        self._total, self._label, self._unit = total, redact(label), unit
        self._stream = stream if stream is not None else sys.stderr
        self._bar = self._stream.isatty()
        self._done = 0
        self._start = self._shown = time.monotonic()
        self._lock, self._ended = threading.RLock(), threading.Event()
        self._life = threading.Thread(target=self._show_life, daemon=True) if alive else None
        self.note = ""

    def __enter__(self) -> Self:
        """Start to show regular lines, if `alive` is set."""
        if self._life is not None:
            self._life.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Show where it ended."""
        self._ended.set()
        if self._life is not None:
            self._life.join()
        self._show(time.monotonic(), end=True)

    def advance(self, units: int = 1, *, note: str | None = None) -> None:
        """Count `units` as done; `note` replaces the words after the count."""
        with self._lock:
            self._done += units
            if note is not None:
                self.note = note
            now = time.monotonic()
            if now - self._shown >= (BAR_SECONDS if self._bar else LINE_SECONDS):
                self._show(now)

    def _show_life(self) -> None:
        while not self._ended.wait(min(1.0, LINE_SECONDS)):
            with self._lock:
                now = time.monotonic()
                limit = LINE_SECONDS if self._shown > self._start else min(FIRST_SECONDS, LINE_SECONDS)
                if now - self._shown >= limit:
                    self._show(now)

    def _show(self, now: float, *, end: bool = False) -> None:
        from tqdm import tqdm

        self._shown = now
        unit = self._unit if self._bar else _plural(self._unit)
        meter = tqdm.format_meter(
            self._done, self._total, now - self._start, prefix=self._label, unit=unit, postfix=self.note or None,
            ncols=110 if self._bar else None,
            bar_format=None if self._bar else PLAIN,
        )  # fmt: skip
        lead = "\r" if self._bar else ""
        tail = "\n" if end or not self._bar else ""
        _write(f"{lead}{meter}{tail}", self._stream)


def _write(text: str, stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError):  # a broken pipe, a full disk, a closed stream
        print(text, end="", file=stream, flush=True)


def _plural(word: str) -> str:
    return f"{word.removesuffix('y')}ies" if word.endswith("y") else f"{word}s"


class Waiting(Background):
    """Context in which a line names the work and its duration, after two seconds and then every few; quick work shows none.

    Args:
        label: the name of the work.
        stream: where to write; stderr unless given.
    """

    def __init__(self, label: str, *, stream: TextIO | None = None) -> None:
        """Create it; lines begin when the context is entered."""
        super().__init__()
        self._label, self._stream = redact(label), stream if stream is not None else sys.stderr

    def _run(self) -> None:
        start, wait = time.monotonic(), min(FIRST_SECONDS, LINE_SECONDS)
        while not self._ended.wait(wait):
            wait = LINE_SECONDS
            _write(f"{self._label} [{time.monotonic() - start:.0f} s elapsed]\n", self._stream)
