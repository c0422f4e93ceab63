"""Which process a run belongs to: every run of ours carries its host and process as tags, so that those of dead processes are found."""

from __future__ import annotations

import os
from pathlib import Path

HOST_TAG, PROCESS_TAG = "memberscope.host", "memberscope.process"


def this_process() -> str:
    """This process, as ``pid:start``; the start tells it from a later process of the same number."""
    import psutil

    me = psutil.Process()
    return f"{me.pid}:{me.create_time():.2f}"


def is_running(process: str) -> bool:
    """Whether a process of this host, as `this_process` names it, is still there; a zombie, which nobody has waited for, is not."""
    import psutil

    pid, _, start = process.partition(":")
    try:
        found = psutil.Process(int(pid))
        return abs(found.create_time() - float(start)) < 1.0 and found.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError):
        return False


def users_of(path: Path) -> list[int]:
    """The ids of other processes that have the file open, as far as this user may see."""
    import psutil

    found, wanted = [], os.path.realpath(path)
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and any(file.path == wanted for file in process.open_files()):
                found.append(process.pid)
        except (psutil.Error, OSError):
            continue
    return found
