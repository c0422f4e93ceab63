"""Execution of units on a Dask cluster: native futures with retries; the records are sent to each worker once."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from typing import Any

from memberscope.addresses import resolved, told
from memberscope.errors import UserError
from memberscope.installed import require
from memberscope.redact import redact
from memberscope.training.execution.local import POLL_SECONDS, Finished
from memberscope.training.execution.work import Inputs, JobFailed, Labels, Spec, Unit, Work, train_unit

CONNECT_SECONDS = 8
WORKER_SECONDS = 30  # a cluster that restarts its workers needs some seconds
RETRIES = 2  # for a task that raised; Dask itself reassigns a task whose worker died
ROUNDS = 3  # attempts in all: the records are sent again after every worker that held them was lost


def work_on(unit: Unit, x: Inputs, y: Labels, spec: Spec) -> list[Any] | JobFailed:
    """Train a unit on a worker of the cluster; a mistake of the user is returned with the machine's name."""
    spec.begin_worker(-1)
    trained = train_unit(spec.work(x, y), unit)
    return JobFailed(f"{trained} (on {platform.node()})") if isinstance(trained, JobFailed) else trained


def on_cluster(
    work: Work, units: Sequence[Unit], *, scheduler: str, advance: Callable[[int], None], check: Callable[[], None]
) -> Finished:
    """Train units on the cluster behind `scheduler`; yields each as it is finished.

    Raises:
        JobFailed: a unit failed; all others have been yielded.
        UserError: there is no answer at that address within `CONNECT_SECONDS`, every worker that was given some unit died, or the
            connection to the cluster was lost.
    """
    client = connect(scheduler)  # errors name the option as it was given
    left = {unit.positions: unit for unit in units}
    try:
        for _ in range(ROUNDS):
            try:
                for unit, trained in _round(client, work, list(left.values()), scheduler, check):
                    del left[unit.positions]
                    advance(unit.steps)
                    yield unit, trained
                return
            except (CancelledError, asyncio.CancelledError):  # the records are gone with the workers that held them
                continue
            except OSError as error:
                why = told(str(error), given=scheduler, address=resolved("scheduler", scheduler))
                raise UserError(
                    f"scheduler={redact(scheduler)}: connection lost ({why}); finished models are kept; allowed: a running scheduler "
                    "with workers"
                ) from None
        raise UserError(
            f"scheduler={redact(scheduler)}: all its workers were lost {ROUNDS} times; finished models are kept; allowed: a cluster whose "
            "workers have enough memory for a model"
        )
    finally:
        client.close(timeout=2)


def connect(scheduler: str) -> Any:
    """A client of the scheduler at that address, or at that of the variable in ``env:NAME``; UserError if there is no answer."""
    address = resolved("scheduler", scheduler)
    require("distributed", by=f"scheduler={redact(scheduler)}", instead="nothing, for this machine")
    import distributed

    make_client: Any = distributed.Client

    try:
        return make_client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        why = told(str(error).splitlines()[0] if str(error) else type(error).__name__, given=scheduler, address=address)
        raise UserError(
            f"scheduler={redact(scheduler)}: cannot be reached ({why}); allowed: tcp://HOST:PORT of a running Dask scheduler, or nothing"
        ) from None


def _round(client: Any, work: Work, units: Sequence[Unit], scheduler: str, check: Callable[[], None]) -> Finished:
    import distributed

    wait: Any = distributed.wait

    client.wait_for_workers(1, timeout=WORKER_SECONDS)
    x, y = client.scatter([work.x, work.y], broadcast=True, hash=True)
    running = {client.submit(work_on, unit, x, y, work.spec, retries=RETRIES, pure=False): unit for unit in units}
    failed: JobFailed | None = None
    try:
        while running:
            check()
            try:
                with client.as_current():
                    done = wait(list(running), timeout=POLL_SECONDS, return_when="FIRST_COMPLETED").done
            except TimeoutError:
                continue
            for future in done:
                unit = running[future]
                try:
                    trained = future.result()
                except distributed.KilledWorker as error:
                    names = ", ".join(map(str, unit.positions))
                    raise UserError(
                        f"scheduler={redact(scheduler)}: every worker that was given model {names} died, as happens when memory "
                        f"runs out (the last: {error.last_worker.address}); finished models are kept; allowed: workers with more memory"
                    ) from None
                del running[future]
                if isinstance(trained, JobFailed):
                    failed = failed or trained
                    continue
                yield unit, trained
    finally:
        client.cancel(list(running))
    if failed is not None:
        raise failed  # after the others are finished and kept
