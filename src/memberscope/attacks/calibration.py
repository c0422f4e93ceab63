"""Shared code of the attacks that compare the target with shadow models record by record: it reads signals of both on the same records.

Signals are computed one model at a time, so that no float64 copy of all models' logits is ever held: only one number per
model, record and query is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from memberscope import signals
from memberscope.checks import Array, BoolArray, FloatArray, check_finite, row_chunks
from memberscope.errors import UserError
from memberscope.evidence import Evidence
from memberscope.file_state import loaded
from memberscope.predictions import Predictions, ShadowPredictions

Read = Callable[[Predictions], FloatArray]


def lacking(evidence: Evidence) -> str | None:
    """Why target and shadows cannot be compared record by record, as a phrase; None if they can."""
    if evidence.shadows is None:
        return "needs shadows"
    if evidence.places is None:
        return "needs shadows with outputs for the target's records (and record_ids for both)"
    reason = signals.missing("loss_nats", evidence.target)
    if reason:
        return reason
    reason = signals.missing("loss_nats", evidence.shadows.model(0))
    return f"{reason} of the shadows" if reason else None


def membership(evidence: Evidence) -> BoolArray:
    """(n_models, n) whether each shadow was trained on each of the target's records."""
    assert evidence.shadows is not None
    member, places = evidence.shadows.member, evidence.places
    return member if in_order(places, len(evidence.shadows)) else member[:, places]


def in_order(places: Array | None, n: int) -> bool:
    """Whether `places` are all of n records in their order, so that nothing has to be copied."""
    return places is not None and len(places) == n and bool((places == np.arange(n)).all())


def each(models: ShadowPredictions, places: Array | None) -> Iterator[Predictions]:
    """Every model's predictions at `places` of its records, copied only where those are not all records in their order."""
    whole = places is None or in_order(places, len(models))
    for k in range(models.n_models):
        one = models.model(k)
        yield one if places is None or whole else one.select(places)


def of_each(models: ShadowPredictions, read: Read, places: Array | None = None) -> FloatArray:
    """(n_models, n) a signal of every model, at `places` of the models' records or at all of them."""
    out = np.empty((models.n_models, len(models) if places is None else len(places)))
    for row, one in zip(out, each(models, places), strict=True):
        row[:] = read(one)
    return out


def scaled_logit(predictions: Predictions) -> FloatArray:
    """log(p / (1 - p)) of the true label's probability p, (n,) in nats (Carlini et al. 2022, section VI.A).

    From logits or probabilities as `signals.scaled_logit`; from losses alone with p = exp(-loss), its complement clipped from below at
    `signals.PROB_FLOOR`, since a loss of 0 stands for any p that rounds to 1.
    """
    if predictions.loss_nats is None:
        return signals.scaled_logit(predictions)
    loss = signals.loss_nats(predictions)
    phi: FloatArray = -loss - np.log(np.maximum(-np.expm1(-loss), signals.PROB_FLOOR))
    return phi


def log_prob(predictions: Predictions, temperature: float = 1.0) -> FloatArray:
    """Logarithm of the true label's probability, (n,), after the logits are divided by `temperature`.

    Where only losses are known, and therefore nothing about the other classes, the log-odds log(p / (1 - p)) are divided instead.
    """
    if temperature == 1.0:
        return 0.0 - signals.loss_nats(predictions)
    if predictions.loss_nats is not None:
        return 0.0 - np.logaddexp(0.0, -scaled_logit(predictions) / temperature)
    out, scores = np.empty(len(predictions)), predictions.logits if predictions.logits is not None else predictions.probs
    assert scores is not None
    for rows in row_chunks(len(out), scores.shape[1]):
        out[rows] = log_prob_of_margins(margins(predictions, rows), temperature)
    return out


def margins(predictions: Predictions, rows: slice = slice(None)) -> FloatArray:
    """(r, classes) log-odds of every class against the true one in some rows, -inf for the true one itself; from losses only, (r, 1), of
    all other classes together.

    Probabilities below `signals.PROB_FLOOR` are raised to it. A partial release gets one column more: in rows that leave classes out, the
    log-odds of all left-out classes together; individually these classes do not count.
    """
    if predictions.loss_nats is not None:
        return -scaled_logit(predictions)[rows, None]
    labels = np.asarray(predictions.labels)[rows].astype(np.intp)[:, None]
    if predictions.logits is not None:
        logs = loaded(predictions.logits[rows]).astype(np.float64)
    else:
        assert predictions.probs is not None
        probs = loaded(predictions.probs[rows]).astype(np.float64)
        logs = np.log(np.maximum(probs, signals.PROB_FLOOR))
        if predictions.released:
            absent = probs <= 0.0
            rest = np.where(absent.any(axis=1), np.maximum(1.0 - probs.sum(axis=1), signals.PROB_FLOOR), 0.0)
            np.put_along_axis(absent, labels, False, axis=1)
            logs[absent] = -np.inf
            with np.errstate(divide="ignore"):
                logs = np.column_stack([logs, np.log(rest)])
    logs -= np.take_along_axis(logs, labels, axis=1)
    np.put_along_axis(logs, labels, -np.inf, axis=1)
    return logs


def _log_sum(values: FloatArray, top: FloatArray) -> FloatArray:
    """Stable logarithm of the sum of exp over the last axis, of which `top` is the maximum; -inf where all are.

    In half the time of `scipy.special.logsumexp`, whose recent versions guard digits that nothing here needs.
    """
    safe = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        total: FloatArray = safe + np.log(np.exp(values - safe[..., None]).sum(axis=-1))
    return total


def log_prob_of_margins(heights: FloatArray, temperature: float, top: FloatArray | None = None) -> FloatArray:
    """`log_prob` from `margins`: (..., classes) -> (...). `top` is their maximum over the classes, where it is known already."""
    if top is None:
        top = heights.max(axis=-1)
    return 0.0 - np.logaddexp(0.0, _log_sum(heights / temperature, top / temperature))


def scaled_logits(evidence: Evidence) -> tuple[FloatArray, FloatArray]:
    """The scaled logits of the target, (n, queries), and of its shadows, (n_models, n, queries).

    The queries are those of ``augmented`` where it is given and the labels are known; else the records themselves, one query.
    """
    shadows = evidence.shadows
    assert shadows is not None
    copies = copies_of(evidence)
    if copies is None:
        return scaled_logit(evidence.target)[:, None], of_each(shadows, scaled_logit, evidence.places)[:, :, None]
    out = copies.of_each(signals.scaled_logit)
    return out[0], out[1:]


@dataclass(frozen=True, kw_only=True, eq=False)
class Copies:
    """Outputs of several models for augmented copies of some records.

    Attributes:
        logits: (n_models, n, queries, classes), the copies of a record in its order.
        labels: (n,) the records' classes.
    """

    logits: Array
    labels: Array

    @property
    def queries(self) -> int:
        """The number of copies of a record."""
        return int(self.logits.shape[2])

    def of_each(self, read: Read) -> FloatArray:
        """(n_models, n, queries) a signal of every model on every copy."""
        n_models, n, queries, classes = self.logits.shape
        repeated, nobody = np.repeat(self.labels, queries), np.zeros((1, n * queries), dtype=np.bool_)
        out = np.empty((n_models, n, queries))
        for k, logits in enumerate(self.logits):
            flat = logits.reshape(1, n * queries, classes)
            out[k] = read(ShadowPredictions(logits=flat, labels=repeated, member=nobody).model(0)).reshape(n, queries)
        return out

    def models(self, which: slice) -> Copies:
        """The outputs of some of the models."""
        return replace(self, logits=self.logits[which])

    def select(self, index: Array) -> Copies:
        """The copies of some of the records."""
        return Copies(logits=self.logits[:, index], labels=self.labels[index])


def copies_of(evidence: Evidence) -> Copies | None:
    """The outputs for copies of the target's records, the target first; None where there are none, or the records' labels are not known.

    Raises:
        UserError: ``augmented`` has another shape, or numbers that are not finite.
    """
    logits, labels = evidence.augmented, evidence.target.labels
    if logits is None or labels is None:
        return None
    if logits.ndim != 4:
        raise UserError(f"augmented: shape {logits.shape}; allowed: (1 + models, records, queries, classes)")
    for k, one in enumerate(logits):
        check_finite(f"augmented, model {k}", one)
    return Copies(logits=logits, labels=labels)


def clip_notes(evidence: Evidence) -> tuple[str, ...]:
    """A note on the number of probabilities that were too small to be used unchanged, of the target and of all shadows on its records."""
    shadows = evidence.shadows
    assert shadows is not None
    ours = signals.clipped(evidence.target)
    theirs = 0 if shadows.probs is None else sum(signals.clipped(one) for one in each(shadows, evidence.places))
    if not ours + theirs:
        return ()
    floor = f"{signals.PROB_FLOOR:g}"
    return (f"{ours} true-class probabilities of the target and {theirs} of the shadows below {floor} were raised to it",)
