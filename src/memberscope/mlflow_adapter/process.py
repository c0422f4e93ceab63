"""Which process a run belongs to: all our runs have their host and process as tags, so that the runs of dead processes can be found."""

from __future__ import annotations

HOST_TAG, PROCESS_TAG = "memberscope.host", "memberscope.process"


def this_process() -> str:
    """This process, as ``pid:start``; the start time distinguishes it from a later process with the same number."""
    import psutil

    me = psutil.Process()
    return f"{me.pid}:{me.create_time():.2f}"


def is_running(process: str) -> bool:
    """Whether a process of this host, named as by `this_process`, is still running."""
    import psutil

    pid, _, start = process.partition(":")
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(start)) < 1.0
    except (psutil.Error, ValueError):
        return False
