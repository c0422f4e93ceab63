"""Stopping: SIGINT and SIGTERM set one flag, and the work stops at its next check point."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from memberscope.errors import Interrupted


class StopFlag:
    """While entered, the first SIGINT or SIGTERM sets the flag and repeats are ignored (MLflow follows Ctrl-C with SIGTERM at once).

    Long-running code calls `check` between steps. Outside the main thread, where no handler can be set, the flag still works by hand.
    """

    def __init__(self) -> None:
        """Create a flag that is not set."""
        self._event = threading.Event()
        self._before: dict[signal.Signals, Any] = {}
        self.received: str | None = None

    def __enter__(self) -> Self:
        """Take over both signals."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Restore the previous handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if not self._event.is_set():
            self.received = signal.Signals(number).name
            self._event.set()

    def set(self, cause: str = "request") -> None:
        """Request a stop by hand; `cause` is named in the message."""
        if not self._event.is_set():
            self.received = cause
            self._event.set()

    @property
    def requested(self) -> bool:
        """Whether a stop was requested."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise Interrupted if a stop was requested."""
        if self._event.is_set():
            raise Interrupted(f"stopped by {self.received or 'request'}; what was finished is saved")
