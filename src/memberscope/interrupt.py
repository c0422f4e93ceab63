"""Stopping: SIGINT and SIGTERM set one flag. The work stops at its next check point, or is left where it is after a moment."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any, Self

from memberscope.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE_SECONDS = 2.0  # for the work to come to a check point; then it is left where it is
UNWINDING_SECONDS = 8.0  # for what follows a check point, or being left: saving, ending workers
WRITE_SECONDS = 5.0  # for a write to a store that was begun; one that takes longer is left, since the store may not answer
REPEAT_SECONDS = 1.0  # the same signal, at least so long after the first of its kind, ends the process at once
LAST_WORDS_SECONDS = 3.0
END, WAKE = 0, 255  # bytes to the listener that are no signals


class StopFlag:
    """While entered, SIGINT and SIGTERM set the flag. There are three ways in which the process then ends.

    - Long-running code calls `check` between steps, which raises `Interrupted`.
    - Where no check comes within `GRACE_SECONDS` (an import, a figure, a user's code), KeyboardInterrupt is raised in the main thread,
      except in a block of `patient` or `writing` and after `release`.
    - The same signal again, at least `REPEAT_SECONDS` after the first of its kind, ends the process at once, even in the midst of a
      library's own code; `last_words` is called before. MLflow follows Ctrl-C with SIGTERM within that time, and a supervisor may follow
      Ctrl-C with SIGTERM later: neither counts as a repeat.

    A thread listens to the signals, since the main thread learns of one only when it comes back to Python. Outside the main thread, where
    no handler can be set, the flag can still be set by calling `set`.

    Attributes:
        received: the name of the signal, or the cause that was passed to `set`.
        left: whether KeyboardInterrupt was raised in the main thread.
        last_words: what a second signal calls before it ends the process; it has `LAST_WORDS_SECONDS`.
    """

    def __init__(self) -> None:
        """Create a flag that is not set."""
        self._event = threading.Event()
        self._before: dict[signal.Signals, Any] = {}
        self._wakeup_before = -1
        self._pipe: tuple[int, int] | None = None
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._since: float | None = None  # when the listener learned of the stop
        self._seen = self._later = (
            0.0  # the main thread is not to leave its work for a while after the first, and not before the second
        )
        self._leaving = False  # the next SIGINT of the main thread is our own
        self._patient, self._writing, self._released = 0, 0, False
        self.received: str | None = None
        self.left = False
        self.last_words: Callable[[], None] = lambda: None

    def __enter__(self) -> Self:
        """Take over both signals."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._on_signal)
            self._pipe = os.pipe()
            for end in self._pipe:
                os.set_blocking(end, False)
            self._wakeup_before = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
            flag = weakref.ref(self)
            os.register_at_fork(after_in_child=lambda: _leave_pipe(flag()))
            self._listener.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Restore the previous handlers."""
        self.release()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
        if self._pipe is not None:
            signal.set_wakeup_fd(self._wakeup_before)
            self._tell(END)
            self._listener.join()
            pipe, self._pipe = self._pipe, None
            for end in pipe:
                os.close(end)

    def set(self, cause: str = "request") -> None:
        """Request a stop from within the program; `cause` is named in the message."""
        if not self._event.is_set():
            self.received = cause
            self._event.set()
            self._tell(WAKE)

    @property
    def requested(self) -> bool:
        """Whether a stop was requested; the caller is expected to stop."""
        self._is_seen()
        return self._event.is_set()

    def check(self) -> None:
        """Raise Interrupted if a stop was requested."""
        if self._event.is_set():
            self._is_seen()
            raise self.interrupted()

    def interrupted(self) -> Interrupted:
        """The error of a stop, which names its cause."""
        return Interrupted(f"stopped by {self.received or 'request'}; what was finished is saved")

    @contextlib.contextmanager
    def patient(self) -> Iterator[None]:
        """Block of code that is not left before its end: it checks the flag itself, or is short and should be whole."""
        self._patient += 1
        try:
            yield
        finally:
            self._patient -= 1

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Block of code that writes to a store: it is not left in its midst within `WRITE_SECONDS` of a stop."""
        self._writing += 1
        try:
            yield
        finally:
            self._writing -= 1

    def release(self) -> None:
        """Leave the main thread alone from now on: the work is over, and what remains is to write how it ended."""
        self._released = True

    def _is_seen(self) -> None:
        if self._event.is_set() and threading.current_thread() is threading.main_thread():
            self._seen = time.monotonic()

    def _wait(self) -> float | None:
        """The seconds until the main thread is to leave its work; None before a stop."""
        if self._since is None:
            return None
        due = max(self._since + GRACE_SECONDS, self._seen + UNWINDING_SECONDS if self._seen else 0.0, self._later)
        return max(0.0, due - time.monotonic())

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Runs in the main thread when that comes back to Python."""
        if self._leaving:
            self._leaving = False
            if self._may_leave():
                self.left = True
                raise KeyboardInterrupt(str(self.interrupted()))
        else:
            self._receive(number)

    def _receive(self, number: int) -> None:
        if not self._event.is_set():
            self.received = signal.Signals(number).name
            self._event.set()

    def _tell(self, byte: int) -> None:
        if self._pipe is not None:
            with contextlib.suppress(OSError):
                os.write(self._pipe[1], bytes([byte]))

    def _listen(self) -> None:
        assert self._pipe is not None
        first: dict[int, float] = {}
        own = 0  # signals that this thread sent
        while True:
            if not select.select([self._pipe[0]], [], [], self._wait())[0]:
                if self._wait() == 0.0:  # else it was seen in the meantime
                    own += self._leave()
                continue
            for byte in os.read(self._pipe[0], 256):
                now = time.monotonic()
                if byte == END:
                    return
                if byte == signal.SIGINT and own:
                    own -= 1
                elif byte in SIGNALS:
                    self._receive(byte)
                    if now - first.setdefault(byte, now) >= REPEAT_SECONDS:
                        self._end_at_once(signal.Signals(byte).name)
                if self._since is None and self._event.is_set():
                    self._since = now

    def _may_leave(self) -> bool:
        """Whether the main thread is in none of the blocks that are to end by themselves."""
        if self._patient or self._released:
            return False
        return not self._writing or (self._since is not None and time.monotonic() - self._since >= WRITE_SECONDS)

    def _leave(self) -> bool:
        """Have KeyboardInterrupt raised in the main thread, which a system call does not hold up; False where that must wait."""
        ready = self._may_leave()
        self._later = time.monotonic() + (UNWINDING_SECONDS if ready else 0.1)
        if ready:
            self._leaving = True
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        return ready

    def _end_at_once(self, name: str) -> None:
        os.write(
            sys.__stderr__.fileno() if sys.__stderr__ else 2, f"memberscope: stopped at once by a second {name}\n".encode()
        )
        speaker = threading.Thread(target=self.last_words, daemon=True)
        speaker.start()
        speaker.join(LAST_WORDS_SECONDS)
        os._exit(Interrupted.exit_code)


def _leave_pipe(flag: StopFlag | None) -> None:
    """In a forked process: its signals are not those of the process that listens."""
    if flag is not None and flag._pipe is not None:
        with contextlib.suppress(ValueError):
            signal.set_wakeup_fd(-1)
