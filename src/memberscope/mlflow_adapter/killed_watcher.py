"""Keeps the status KILLED of a run, which ``mlflow run`` would overwrite.

MLflow 3.17.2's project runner waits for its script and then writes FAILED over whatever status the script had set: its check for a
run that has ended compares a name with numbers and is never true. An interrupted script therefore starts a small process that waits until
``mlflow run`` has ended and writes KILLED again. Run as a program: ``python -m memberscope.mlflow_adapter.killed_watcher RUN_ID
PARENT_PID``.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time

PATIENCE_SECONDS = 60.0


def watch(run_id: str, owner: int) -> None:
    """Start the watcher, in its own session so that signals to our group do not reach it; `owner` is the process id of ``mlflow run``."""
    subprocess.Popen(
        [sys.executable, "-m", __name__, run_id, str(owner)],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def main(run_id: str, parent: int) -> None:
    """Wait up to a minute for the process `parent` to end, then set the run's status to KILLED unless it already is."""
    import mlflow
    import psutil

    from memberscope.mlflow_adapter.owner import is_alive

    deadline = time.monotonic() + PATIENCE_SECONDS
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(parent)
        while is_alive(process) and time.monotonic() < deadline:
            time.sleep(0.1)
    client = mlflow.MlflowClient()
    if client.get_run(run_id).info.status != "KILLED":
        client.set_terminated(run_id, "KILLED")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
