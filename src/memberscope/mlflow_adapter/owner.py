"""The process that made our run and waits for us: ``mlflow run``, or a program that calls ``mlflow.projects.run``.

MLflow starts an entry point through ``bash -c``, and a termination from outside ends MLflow alone: nobody tells the script. So the script
looks itself whether its owner is still there.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import TYPE_CHECKING, Self

from memberscope.interrupt import StopFlag

if TYPE_CHECKING:
    import psutil

POLL_SECONDS = 1.0
SHELLS = ("bash", "sh", "dash")


def find_owner() -> psutil.Process | None:
    """The nearest ancestor that is not a shell with a command of ours to run, if it is a Python; None elsewhere.

    A run's id that a person put into the environment of a shell has no owner: that shell may be closed, and the work is to go on.
    """
    import psutil

    try:
        ancestor = psutil.Process().parent()
        while ancestor is not None and ancestor.name() in SHELLS and "-c" in ancestor.cmdline()[1:2]:
            ancestor = ancestor.parent()
        if ancestor is None or "python" not in ancestor.exe().rpartition("/")[2].lower():
            return None
    except psutil.Error:
        return None
    return ancestor


def is_alive(process: psutil.Process) -> bool:
    """Whether it is there: not ended, not another process of the same number, and not a zombie."""
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


class Watch:
    """While entered, the end of the owner sets the stop flag.

    Args:
        owner: see `find_owner`; None is never missed.
        stop: what to set.
    """

    def __init__(self, owner: psutil.Process | None, stop: StopFlag) -> None:
        """A watch that has not begun."""
        self._owner, self._stop = owner, stop
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        """Begin."""
        if self._owner is not None:
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End."""
        self._ended.set()
        if self._owner is not None:
            self._thread.join()

    def _run(self) -> None:
        assert self._owner is not None
        while is_alive(self._owner):
            if self._ended.wait(POLL_SECONDS):
                return
        self._stop.set("the end of mlflow run")
