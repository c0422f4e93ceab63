"""A worker process of a sweep: ``python -m memberscope.sweep_worker JOB.json``. It stops when its parent process is gone."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import traceback
from pathlib import Path

from memberscope.addresses import in_use
from memberscope.errors import Interrupted, UserError
from memberscope.garbage import seldom_collected
from memberscope.interrupt import StopFlag
from memberscope.quiet import quiet_libraries
from memberscope.redact import redact


@seldom_collected
def main(path: str) -> int:
    """Do the job that a JSON file describes: ``job`` for `memberscope.studies.sweep.work`, ``tracker`` and ``parent`` (a process id).

    The addresses of the storage and of the tracking store, which may have passwords, are in environment variables.
    """
    from memberscope.mlflow_adapter.tracker import reopen
    from memberscope.studies.sweep.work import ADDRESS, Job, work
    from memberscope.training.execution.jobs import READY

    quiet_libraries()
    instructions = json.loads(Path(path).read_text())
    job = Job.from_json(json.dumps(instructions["job"]))
    if address := os.environ.pop(ADDRESS, ""):  # processes that are started from here need it no more
        job = dataclasses.replace(job, url=address)
    about = [job.url, *in_use(())]
    with StopFlag() as stop:

        def watch() -> None:
            if os.getppid() != instructions["parent"]:
                stop.set()

        try:
            tracker = reopen(instructions["tracker"], writing=stop.writing, check=stop.check)
            with tracker.outbox.finishing():
                work(job, tracker, stop, watch=watch, on_ready=Path(path).with_suffix(READY).touch)
        except (Interrupted, UserError) as error:
            if isinstance(error, UserError):
                print(f"memberscope: {error}", file=sys.stderr, flush=True)
            return error.exit_code
        except KeyboardInterrupt:
            return Interrupted.exit_code
        except Exception as error:  # as Python would end it, but without the passwords that a library's error may quote
            print(redact("".join(traceback.format_exception(error)), about), end="", file=sys.stderr, flush=True)
            return 1
        finally:
            stop.release()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
