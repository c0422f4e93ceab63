"""The owner of our run, the process that made it and waits for us: ``mlflow run``, or a program that calls ``mlflow.projects.run``.

MLflow starts an entry point through ``bash -c``. If it is terminated from outside, only MLflow itself ends, and the script is not told. So
the script itself checks whether its owner is still running.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from memberscope.background import Background
from memberscope.interrupt import StopFlag

if TYPE_CHECKING:
    import psutil

POLL_SECONDS = 1.0
SHELLS = ("bash", "sh", "dash")


def find_owner() -> psutil.Process | None:
    """The nearest ancestor that is not a shell running one of our commands, if that is a Python process; else None.

    A run id that a person set in a shell's environment has no owner: that shell may be closed, and the work should go on.
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
    """Is it still running: not ended, not replaced by another process with the same id, and not a zombie?"""
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


class Watch(Background):
    """Context in which the end of the owner sets the stop flag.

    Args:
        owner: see `find_owner`; None to watch nothing.
        stop: the flag to set.
    """

    def __init__(self, owner: psutil.Process | None, stop: StopFlag) -> None:
        """Create a watch; it begins when the context is entered."""
        super().__init__()
        self._owner, self._stop = owner, stop

    def _run(self) -> None:
        if self._owner is None:
            return
        while is_alive(self._owner):
            if self._ended.wait(POLL_SECONDS):
                return
        self._stop.set("the end of mlflow run")
