"""Hold a run's KILLED against ``mlflow run``.

MLflow 3.17.2's project runner waits for its script and then writes FAILED over whatever status the script had set: its check for an
ended run compares a name with numbers and never holds. So an interrupted script leaves a small process behind that waits until
``mlflow run`` is gone and writes KILLED again. Run as a program: ``python -m memberscope.mlflow_adapter.killed_watcher RUN_ID PARENT_PID``.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time

PATIENCE_SECONDS = 60.0


def watch(run_id: str, owner: int) -> None:
    """Start the watcher, in a session of its own so that no signal to our group reaches it; `owner` is the id of ``mlflow run``."""
    subprocess.Popen(
        [sys.executable, "-m", __name__, run_id, str(owner)],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def main(run_id: str, parent: int) -> None:
    """Wait for the process `parent` to end, a minute at most, then set the run KILLED if it is not."""
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
