"""A thread that runs in the background of a block of code."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Background(ABC):
    """Context in which a daemon thread runs `_run`, which returns soon after `_ended` is set; leaving the context waits for the thread."""

    def __init__(self) -> None:
        """Create the thread; it starts when the context is entered."""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Tell the thread to end, and wait for it."""
        self._ended.set()
        self._thread.join()

    @abstractmethod
    def _run(self) -> None:
        """The work of the thread."""
