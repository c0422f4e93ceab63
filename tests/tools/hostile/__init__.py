"""Inputs that are broken, foreign or made to do harm, each with the reader that a user's options would give it to.

A case writes its input into a folder and reads it. Whatever it holds, there are two good ends: a result, or a `UserError` of one line; both
within a bound of time and memory. `tests/edge/test_hostile.py` runs the cases in the suite, `tests/tools/hostile_inputs.py` by hand, each in
a process of its own with its time and memory.
"""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

SECONDS = 10.0  # of this process's own work; a case that only waits is ended after `PATIENCE` times as long
PATIENCE = 3
MEMORY = 3 << 29  # bytes beyond what the process has: 1.5 GiB


@dataclass(frozen=True, kw_only=True)
class Case:
    """One input and its reader.

    Attributes:
        name: what it is, ``group: input``.
        act: writes the input into an empty folder and reads it.
        refused: whether it must end in a `UserError`; otherwise a result is as good.
        slow: whether the suite leaves it out, so that only the script runs it.
    """

    name: str
    act: Callable[[Path], object]
    refused: bool = False
    slow: bool = False


class TooLong(BaseException):
    """A case ran past its time."""


def _expired(signum: int, frame: FrameType | None) -> None:
    raise TooLong("ran out of time")


@contextlib.contextmanager
def bounded(seconds: float = SECONDS, memory: int = MEMORY) -> Iterator[None]:
    """A bound of time, and of memory beyond what the process has now, for the block: `TooLong`, or a MemoryError."""
    before = {number: signal.signal(number, _expired) for number in (signal.SIGALRM, signal.SIGPROF)}
    limits = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory, limits[1]))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        for number, handler in before.items():
            signal.signal(number, handler)


def problem(error: BaseException) -> str:
    """What is wrong with the end of a case; empty for a `UserError` of one line."""
    from memberscope.errors import UserError

    if not isinstance(error, UserError):
        return f"{type(error).__name__}: {str(error)[:160]}"
    line = str(error)
    if "\n" in line or not line.strip():
        return f"not one line: {line[:160]!r}"
    return f"a line of {len(line):,} characters" if len(line) > 3000 else ""


def cases() -> list[Case]:
    """All of them."""
    from hostile import arrays, evidence, outputs, plans, records, runs, tables, texts, values

    modules = (arrays, records, tables, outputs, texts, plans, runs, values, evidence)
    found = [case for module in modules for case in module.cases()]
    assert len({case.name for case in found}) == len(found)
    return found
