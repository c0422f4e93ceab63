"""Which process a run belongs to: every run of ours carries its host and process as tags, so that those of dead processes are found."""

from __future__ import annotations

HOST_TAG, PROCESS_TAG = "memberscope.host", "memberscope.process"


def this_process() -> str:
    """This process, as ``pid:start``; the start tells it from a later process of the same number."""
    import psutil

    me = psutil.Process()
    return f"{me.pid}:{me.create_time():.2f}"


def is_running(process: str) -> bool:
    """Whether a process of this host, as `this_process` names it, is still there."""
    import psutil

    pid, _, start = process.partition(":")
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(start)) < 1.0
    except (psutil.Error, ValueError):
        return False
