"""The loss trace of a study's model: collected while it is trained, read by the trace attacks, and kept with the run, sealed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope import signals
from memberscope.audit import artifacts
from memberscope.checks import Array
from memberscope.datasets import LabeledData
from memberscope.evidence import Evidence
from memberscope.exposure.trace import LossTrace
from memberscope.plans.split import Index
from memberscope.predictions import Predictions
from memberscope.secret import key
from memberscope.studies.forms import OutputForm, named
from memberscope.tracking import Tracker
from memberscope.training.query import Query

OFF = "loss_trace=no, so losses were not collected"
NOT_COLLECTED = "losses were not collected: loss_trace=no, or the trainer's models offer no losses_by_epoch"
NOT_OFFERED = "the trainer's models offer no losses_by_epoch"


@contextmanager
def collected(
    data: LabeledData, index: Index, member: NDArray[np.bool_], *, wanted: bool, epochs: int | None, every: int = 1
) -> Iterator[LossTrace | None]:  # fmt: skip
    """A context with a new trace of the records at `index`, whose ids are these positions, in a temporary file; None unless `wanted`.

    Args:
        data: the records, with labels after noise.
        index: (n,) positions of members and non-members.
        member: (n,) bool.
        wanted: whether there is to be one.
        epochs: number of the last epoch, which has a row in any case; None if it is not known.
        every: epochs from one row to the next; it may exceed `epochs`.
    """
    if not wanted:
        yield None
        return
    stride = every if epochs is None else min(every, epochs)
    with tempfile.TemporaryDirectory(prefix="memberscope-") as folder:
        yield LossTrace.create(
            Path(folder) / "trace", record_ids=index, member=member, labels=data.y[index], every=stride, epochs=epochs
        )


def losses_at(
    predict: Callable[[Index], Any], data: LabeledData, index: Index, *, form: OutputForm = "logits"
) -> NDArray[np.float64]:
    """(m,) losses in nats of the records at `index` with a model's present weights, in evaluation mode."""
    outputs = named(form, predict(index))
    return signals.loss_nats(Predictions(**outputs, labels=data.y[index], member=np.arange(len(index)) < 1))


def query_for(index: Index) -> Query:
    """What a trainer whose models cannot be followed is asked for, beside outputs."""
    return Query(index=index, measures=("losses_by_epoch",))


def fill(trace: LossTrace, by_epoch: Array) -> None:
    """Append losses (n, epochs) that a model kept itself."""
    for column in by_epoch.T:
        trace.update(column)


def evidence(predictions: Predictions, trace: LossTrace | None) -> Evidence:
    """The evidence of an audit: a model's outputs and, where there are any, the losses of the same records by epoch, in the same order."""
    if trace is not None and len(trace):
        return Evidence(target=predictions, loss_trace=trace.by_record())
    return Evidence(target=predictions, absent={"loss_trace": OFF if trace is None else NOT_OFFERED})


def log_trace(trace: LossTrace | None, tracker: Tracker, *, private: bool) -> None:
    """Keep a trace with the run, sealed with the user's key; nothing if there is none, or nothing of single records may be kept."""
    if trace is None or not len(trace) or private:
        return
    with tempfile.TemporaryDirectory(prefix="memberscope-") as folder:
        path = Path(folder) / artifacts.LOSS_TRACE
        trace.save_sealed(path, key=key())
        tracker.file(path, artifacts.LOSS_TRACE)


def log_losses(
    data: LabeledData, index: Index, member: NDArray[np.bool_], losses: Array, tracker: Tracker, *, private: bool
) -> None:  # fmt: skip
    """Keep the losses (n, epochs) of the records at `index` with a run; see `log_trace`."""
    with collected(data, index, member, wanted=not private, epochs=losses.shape[1]) as trace:
        if trace is not None:
            fill(trace, losses)
            log_trace(trace, tracker, private=private)
