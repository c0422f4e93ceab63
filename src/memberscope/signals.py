"""Signals: one number per record, computed from the model's output. All are float64, in nats, and computed in chunks of rows.

From logits, everything is computed by a stable log-sum-exp: with ``d = z - max z`` and ``rest`` the sum of ``exp(d)`` over all
classes but the largest, the loss is ``(max z - z_y) + log1p(rest)`` and keeps its relative precision down to 1e-300, where
``-log(softmax)`` collapses to ties at 0 below 1e-16 (below 6e-8 in float32).

From probabilities, entries are clipped from below at `PROB_FLOOR` before a logarithm is taken, and so is a complement
``1 - p``; `clipped` counts the records whose true class this touched. The complement of a row's largest probability is the sum
of its other entries, which a saturated float32 row still preserves, unless ``released``: a partial release gives no information about the
entries that it left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import cast

import numpy as np

from memberscope.checks import Array, FloatArray, row_chunks
from memberscope.errors import UserError, nearest
from memberscope.file_state import loaded
from memberscope.pieces import pieces, release
from memberscope.predictions import Predictions

PROB_FLOOR = 1e-30
"""Probabilities and complements below this are raised to it before a logarithm, as tensorflow_privacy does for entropy."""
CHUNK = 1 << 16
"""The numbers of a chunk: some ten arrays of so many fit into a processor's cache."""


class _Rows:
    """A chunk of r rows with c classes: log-probabilities, the logarithms of their complements, and the signals computed from them."""

    def __init__(self, predictions: Predictions, rows: slice) -> None:
        self.from_logits = predictions.logits is not None
        self.released = predictions.released
        scores = predictions.logits if predictions.logits is not None else predictions.probs
        self.scores: FloatArray = np.asarray(loaded(cast(Array, scores)[rows]), dtype=np.float64)  # (r, c)
        self.index = np.arange(len(self.scores))
        self.y: Array = np.asarray(cast(Array, predictions.labels)[rows]).astype(np.intp)

    def at(self, array: FloatArray, columns: Array) -> FloatArray:
        return cast(FloatArray, array[self.index, columns])

    @cached_property
    def top(self) -> Array:
        return cast(Array, self.scores.argmax(axis=1))

    @cached_property
    def d(self) -> FloatArray:
        """(r, c) log of each probability divided by the row's largest, at most 0."""
        scores = self.scores if self.from_logits else np.log(np.maximum(self.scores, PROB_FLOOR))
        return cast(FloatArray, scores - self.at(scores, self.top)[:, None])

    @cached_property
    def e(self) -> FloatArray:
        return np.exp(self.d)

    @cached_property
    def rest(self) -> FloatArray:
        """(r,) sum of `e` over all classes but the largest."""
        others = self.e.copy()
        others[self.index, self.top] = 0.0
        return cast(FloatArray, others.sum(axis=1))

    @cached_property
    def log_rest(self) -> FloatArray:
        tiny = self.rest < 1e-280
        log_rest = np.log(np.where(tiny, 1.0, self.rest))
        if tiny.any():
            others = self.d[tiny].copy()
            others[np.arange(len(others)), self.top[tiny]] = -np.inf
            second = others.max(axis=1)
            log_rest[tiny] = second + np.log(np.exp(others - second[:, None]).sum(axis=1))
        return cast(FloatArray, log_rest)

    @cached_property
    def p(self) -> FloatArray:
        return self.e / (1.0 + self.rest)[:, None] if self.from_logits else self.scores

    @cached_property
    def log_p(self) -> FloatArray:
        if self.from_logits:
            return cast(FloatArray, self.d - np.log1p(self.rest)[:, None])
        return cast(FloatArray, np.log(np.maximum(self.scores, PROB_FLOOR)))

    @cached_property
    def log_complement(self) -> FloatArray:
        """(r, c) log(1 - p), precise where p is near 1."""
        p = self.p.copy()
        p[self.index, self.top] = 0.0
        log_complement = np.log1p(-np.minimum(p, 1.0 - PROB_FLOOR))
        if self.from_logits:
            at_top = self.log_rest - np.log1p(self.rest)
        elif self.released:
            at_top = np.log(np.maximum(1.0 - self.at(self.p, self.top), PROB_FLOOR))
        else:
            at_top = np.log(np.clip(p.sum(axis=1), PROB_FLOOR, 1.0))
        log_complement[self.index, self.top] = at_top
        return cast(FloatArray, log_complement)

    def loss_nats(self) -> FloatArray:
        if self.from_logits:
            return cast(FloatArray, np.log1p(self.rest) - self.at(self.d, self.y))
        return cast(FloatArray, -np.log(np.maximum(self.at(self.scores, self.y), PROB_FLOOR)))

    def confidence(self) -> FloatArray:
        return self.at(self.p, self.y)

    def max_confidence(self) -> FloatArray:
        return self.at(self.p, self.top)

    def entropy_nats(self) -> FloatArray:
        if self.from_logits:
            return cast(FloatArray, np.log1p(self.rest) - (self.p * self.d).sum(axis=1))
        return cast(FloatArray, -(self.p * self.log_p).sum(axis=1))

    def modified_entropy(self) -> FloatArray:
        terms = self.p * self.log_complement
        terms[self.index, self.y] = np.exp(self.at(self.log_complement, self.y)) * self.at(self.log_p, self.y)
        return cast(FloatArray, 0.0 - terms.sum(axis=1))  # not -0.0

    def margin(self) -> FloatArray:
        others = self.d.copy()
        others[self.index, self.y] = -np.inf
        return cast(FloatArray, self.at(self.d, self.y) - others.max(axis=1))

    def scaled_logit(self) -> FloatArray:
        if not self.from_logits:
            return self.at(self.log_p, self.y) - self.at(self.log_complement, self.y)
        right = self.y == self.top
        e_y, d_y = self.at(self.e, self.y), self.at(self.d, self.y)
        others = np.log1p(np.maximum(self.rest - np.where(right, 0.0, e_y), 0.0))
        return cast(FloatArray, np.where(right, -self.log_rest, d_y - others))

    def correctness(self) -> FloatArray:
        return cast(FloatArray, (self.top == self.y).astype(np.float64))


def _chunks(predictions: Predictions) -> Iterator[tuple[slice, _Rows]]:
    """The rows of scores, a chunk at a time; memory-mapped files are as they were when they were opened, else UserError."""
    scores = predictions.logits if predictions.logits is not None else predictions.probs
    assert scores is not None
    for rows in row_chunks(len(scores), scores.shape[1], elements=CHUNK):
        yield rows, _Rows(predictions, rows)
        release(scores)
    predictions.check_files()


def _rowwise(predictions: Predictions, read: Callable[[_Rows], FloatArray]) -> FloatArray:
    out = np.empty(len(predictions))
    for rows, chunk in _chunks(predictions):
        out[rows] = read(chunk)
    return out


def _given(predictions: Predictions, name: str) -> FloatArray:
    """Losses or entropies as they were given, (n,) float64; memory-mapped ones are read as in `_chunks`."""
    found = np.empty(len(predictions))
    for (first,), piece in pieces(getattr(predictions, name)):
        found[first : first + len(piece)] = piece
    predictions.check_files()
    return found


def _require(name: str, predictions: Predictions) -> None:
    reason = missing(name, predictions)
    if reason:
        raise UserError(f"{name}: {reason}")


def loss_nats(predictions: Predictions) -> FloatArray:
    """Cross-entropy of the true label, (n,) in nats: the given losses, or -log p_y.

    From probabilities, it is -log(max(p_y, `PROB_FLOOR`)), without renormalizing the row.
    """
    _require("loss_nats", predictions)
    if predictions.loss_nats is not None:
        return _given(predictions, "loss_nats")
    return _rowwise(predictions, _Rows.loss_nats)


def confidence(predictions: Predictions) -> FloatArray:
    """Probability of the true label, (n,) in [0, 1]; exp(-loss) where only losses are known."""
    _require("confidence", predictions)
    if predictions.loss_nats is not None:
        return np.exp(-_given(predictions, "loss_nats"))
    return _rowwise(predictions, _Rows.confidence)


def max_confidence(predictions: Predictions) -> FloatArray:
    """Largest probability, (n,) in [1/classes, 1]; does not depend on the labels."""
    _require("max_confidence", predictions)
    return _rowwise(predictions, _Rows.max_confidence)


def entropy_nats(predictions: Predictions) -> FloatArray:
    """Entropy of the prediction, -sum_i p_i log p_i, (n,) in nats (Song & Mittal 2021, Eq. 7)."""
    _require("entropy_nats", predictions)
    if predictions.entropy_nats is not None:
        return _given(predictions, "entropy_nats")
    return _rowwise(predictions, _Rows.entropy_nats)


def modified_entropy(predictions: Predictions) -> FloatArray:
    """Modified entropy, -(1 - p_y) log p_y - sum over i != y of p_i log(1 - p_i), (n,) in nats (Song & Mittal 2021, Eq. 8).

    Unlike entropy it depends on the label: 0 for a confident correct prediction, unbounded for a confident wrong one.
    """
    _require("modified_entropy", predictions)
    return _rowwise(predictions, _Rows.modified_entropy)


def margin(predictions: Predictions) -> FloatArray:
    """Log-probability of the true label minus the largest other log-probability, (n,) in nats: z_y - max over i != y of z_i."""
    _require("margin", predictions)
    return _rowwise(predictions, _Rows.margin)


def scaled_logit(predictions: Predictions) -> FloatArray:
    """log(p_y / (1 - p_y)), (n,) in nats, as z_y - logsumexp of the other logits (Carlini et al. 2022, section VI.A)."""
    _require("scaled_logit", predictions)
    return _rowwise(predictions, _Rows.scaled_logit)


def correctness(predictions: Predictions) -> FloatArray:
    """1.0 where the predicted class (the first of several largest) is the label, else 0.0; (n,)."""
    _require("correctness", predictions)
    if predictions.predicted is not None:
        return cast(FloatArray, (predictions.predicted == predictions.labels).astype(np.float64))
    return _rowwise(predictions, _Rows.correctness)


def top_log_probs(predictions: Predictions, k: int) -> FloatArray:
    """Logarithms of each record's min(k, classes) largest probabilities, in descending order, (n, k) in nats."""
    _require("max_confidence", predictions)
    scores = predictions.logits if predictions.logits is not None else predictions.probs
    assert scores is not None
    k = min(k, scores.shape[1])
    out = np.empty((len(scores), k))
    for rows, chunk in _chunks(predictions):
        log_p = chunk.log_p
        largest = np.partition(log_p, log_p.shape[1] - k, axis=1)[:, -k:]
        out[rows] = -np.sort(-largest, axis=1)
    return out


def clipped(predictions: Predictions) -> int:
    """The number of records whose true-class probability was below `PROB_FLOOR` and was clipped; 0 from logits."""
    if predictions.probs is None or predictions.labels is None:
        return 0
    return sum(int((chunk.at(chunk.scores, chunk.y) < PROB_FLOOR).sum()) for _, chunk in _chunks(predictions))


@dataclass(frozen=True, kw_only=True)
class Signal:
    """A named signal: the function, the predictions from which it can be computed, and in which direction members lie.

    Attributes:
        name: as in `SIGNALS`.
        function: `Predictions` -> (n,) float64.
        needs: fields of `Predictions`, at least one of which must be known.
        sign: +1 where higher means more likely a member, -1 where lower does.
    """

    name: str
    function: Callable[[Predictions], FloatArray]
    needs: frozenset[str]
    sign: int

    def __call__(self, predictions: Predictions) -> FloatArray:
        """The signal of each record, (n,) float64."""
        return self.function(predictions)


_SCORES = frozenset({"logits", "probs"})


def _signals(rows: Iterable[tuple[Callable[[Predictions], FloatArray], frozenset[str], int]]) -> Mapping[str, Signal]:
    return MappingProxyType(
        {f.__name__: Signal(name=f.__name__, function=f, needs=needs, sign=sign) for f, needs, sign in rows}
    )


SIGNALS: Mapping[str, Signal] = _signals(
    [
        (loss_nats, _SCORES | {"loss_nats"}, -1),
        (confidence, _SCORES | {"loss_nats"}, 1),
        (max_confidence, _SCORES, 1),
        (entropy_nats, _SCORES | {"entropy_nats"}, -1),
        (modified_entropy, _SCORES, -1),
        (margin, _SCORES, 1),
        (scaled_logit, _SCORES, 1),
        (correctness, _SCORES | {"predicted"}, 1),
    ]
)


def get(name: str) -> Signal:
    """The signal of that name; `UserError` with the nearest names for an unknown one."""
    if name not in SIGNALS:
        raise UserError(f"signal: {name!r}{nearest(name, SIGNALS)}; allowed: {', '.join(sorted(SIGNALS))}")
    return SIGNALS[name]


def missing(name: str, predictions: Predictions) -> str | None:
    """Why the signal cannot be computed from these predictions, as a phrase, or None where it can."""
    needs = get(name).needs
    if any(getattr(predictions, need) is not None for need in needs):
        return None
    return f"needs {' or '.join(sorted(needs))}"
