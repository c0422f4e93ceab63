"""Executes a fleet's training, whatever trains it: finished models come from the store, and the rest are trained where the options say."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any

from memberscope.checks import Array
from memberscope.cores import cores
from memberscope.progress import Progress
from memberscope.training.execution import dask, local
from memberscope.training.execution.work import JobFailed, Unit, Work
from memberscope.training.store import Facts, Store
from memberscope.training.trainer import Execution

Arrays = Mapping[str, Array]


def execute(
    work: Work,
    units: Sequence[Unit],
    run: Execution,
    *,
    threads: int,
    common: Facts,
    each: Sequence[Facts],
    to_arrays: Callable[[Any], Arrays],
    from_arrays: Callable[[int, Arrays], Any],
) -> tuple[list[Any], int]:
    """Train all units, each stored as soon as it is finished, so that a run that was stopped or killed continues from there.

    Args:
        work: the training with its records.
        units: all of the fleet's, in the order of their positions.
        run: store, workers or cluster, label and stop flag.
        threads: units that train at a time in threads of this process; 0: they train in worker processes.
        common: facts that decide every model's bytes, for the store.
        each: facts of each model.
        to_arrays: a trained model as arrays for the store.
        from_arrays: the arrays of the model at a position, back; None if they lack something that is wanted now, so that the model must be
            trained again.

    Returns:
        What training left of each model, by position; and how many came from the store.

    Raises:
        UserError: the store cannot be written, or differs from what is asked where reuse is forced; a cluster cannot be reached; workers
            die again and again.
        JobFailed: the training of a model failed.
        Interrupted: a stop was requested.
    """
    store = run.store
    names = store.plan(run.label, common, each) if store else []
    found: dict[int, Any] = {}
    for k, name in enumerate(names):
        arrays = store.load(name) if store else None
        if arrays is not None and (model := from_arrays(k, arrays)) is not None:
            found[k] = model
    reused = len(found)
    missing = [unit for unit in units if not all(k in found for k in unit.positions)]
    if missing:
        with _saying_what_is_kept(store), closing(_train(work, missing, run, threads=threads)) as finished:
            for unit, trained in finished:
                for k, model in zip(unit.positions, trained, strict=True):
                    if k not in found:  # one whose group was incomplete is there already, with the same bytes
                        if store:
                            store.save(names[k], to_arrays(model))
                        found[k] = model
    return [found[k] for k in range(len(each))], reused


@contextmanager
def _saying_what_is_kept(store: Store | None) -> Iterator[None]:
    try:
        yield
    except JobFailed as error:
        raise (JobFailed(f"{error}; models finished before are kept") if store else error) from None


def _train(work: Work, units: Sequence[Unit], run: Execution, *, threads: int) -> local.Finished:
    """Each unit as it is finished, with progress."""
    run.stop.check()
    lock = threading.Lock()
    with Progress(sum(unit.steps for unit in units), run.label) as progress:

        def advance(steps: int) -> None:
            with lock:
                progress.advance(steps)

        if run.scheduler:
            yield from dask.on_cluster(work, units, scheduler=run.scheduler, advance=advance, check=run.stop.check)
        elif threads:
            yield from local.in_threads(work, units, threads=threads, advance=advance, check=run.stop.check)
        else:
            workers = run.workers or cores()
            yield from local.in_processes(work, units, workers=workers, advance=advance, check=run.stop.check)
