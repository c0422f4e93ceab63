"""A worker process of a sweep: ``python -m memberscope.sweep_worker JOB.json``. It stops when its parent process is gone."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from memberscope.errors import Interrupted, UserError
from memberscope.interrupt import StopFlag
from memberscope.quiet import quiet_libraries


def main(path: str) -> int:
    """Do the job that a JSON file describes: ``job`` for `memberscope.studies.sweep.work`, ``tracker`` and ``parent`` (a process id)."""
    from memberscope.mlflow_adapter.tracker import reopen
    from memberscope.studies.sweep.work import Job, work
    from memberscope.training.execution.jobs import READY

    quiet_libraries()
    instructions = json.loads(Path(path).read_text())
    with StopFlag() as stop:

        def watch() -> None:
            if os.getppid() != instructions["parent"]:
                stop.set()

        try:
            tracker = reopen(instructions["tracker"])
            work(
                Job.from_json(json.dumps(instructions["job"])),
                tracker,
                stop,
                watch=watch,
                on_ready=Path(path).with_suffix(READY).touch,
            )
        except (Interrupted, UserError) as error:
            if isinstance(error, UserError):
                print(f"memberscope: {error}", file=sys.stderr, flush=True)
            return error.exit_code
        except KeyboardInterrupt:
            return Interrupted.exit_code
        finally:
            stop.release()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
