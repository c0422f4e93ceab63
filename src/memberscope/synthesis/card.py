"""The card of a synthetic set: the target's agreement with it, its diversity, its distance to real records, and its number of queries.

The card does not measure how useful the set is for an attack, as `memberscope.synthesis.transfer` does, but helps to explain it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from memberscope import seeds
from memberscope.audit.blind import blind_control
from memberscope.checks import Array
from memberscope.errors import UserError
from memberscope.metrics.estimate import Estimate, skipped, spanning
from memberscope.metrics.intervals import two_sided_z, wilson
from memberscope.predictions import Predictions
from memberscope.unlogged import unlogged

MOST_RECORDS = 2_000  # largest number of records that are compared with each other, and with as many real ones
_BLOCK = 500


@dataclass(frozen=True, kw_only=True)
class Diversity:
    """The distances of records to their nearest neighbour in the same set.

    Attributes:
        mean, median, p05: statistics of the distances, as the root mean square over features (for bits: the square root of the share of
            bits that differ).
        duplicates: share of records that have an exact copy in the set.
        compared: number of records that were compared, a random part of a large set.
    """

    mean: float
    median: float
    p05: float
    duplicates: float
    compared: int


@dataclass(frozen=True, kw_only=True)
class Card:
    """The description of a synthetic set of n records.

    Attributes:
        method: the method that made it.
        records, classes: numbers of records and classes.
        class_counts: number of records of each class.
        confidence: mean probability that the target gives to a record's label; skipped if the target publishes labels only.
        agreement: share of records to which the target gives their label.
        diversity: diversity of the set.
        diversity_real: diversity of as many held-out real records.
        c2st: AUC of a classifier of synthetic against held-out real records, each of which is scored by a model that was trained neither on
            it nor on its copies (Lopez-Paz & Oquab 2017, with AUC instead of accuracy): 0.5 if it cannot tell them apart, 1 if it always
            can. The classifier is that of the blind control (boosted trees and logistic regression on principal components, see
            `blind_control`), without labels; a set that it cannot tell from real records may still differ.
        recognized: share of records to which a classifier of real records, independent of the target, gives their label. It is a support
            vector machine trained on one half of the held-out real records; skipped without their labels.
        recognized_real: the same share for the other half.
        queries: number of queries of the target that the set took.
    """

    method: str
    records: int
    classes: int
    class_counts: tuple[int, ...]
    confidence: Estimate
    agreement: Estimate
    diversity: Diversity
    diversity_real: Diversity | None
    c2st: Estimate
    recognized: Estimate
    recognized_real: Estimate
    queries: int

    @property
    def queries_per_record(self) -> float:
        """Average number of queries per record."""
        return self.queries / self.records

    def rows(self) -> list[dict[str, str | float | None]]:
        """Rows of a table, one per metric, with columns figure, value, ci_low, ci_high, note."""
        rows: list[dict[str, str | float | None]] = []

        def add(figure: str, value: float | None, low: float | None = None, high: float | None = None, note: str = "") -> None:
            rows.append({"figure": figure, "value": value, "ci_low": low, "ci_high": high, "note": note})

        add("records", self.records, note=self.method)
        add("classes_present", sum(count > 0 for count in self.class_counts), note=f"of {self.classes}")
        add("fewest_of_a_class", min(self.class_counts))
        for name in ("confidence", "agreement", "c2st", "recognized", "recognized_real"):
            estimate: Estimate = getattr(self, name)
            known = estimate.status != "skipped"
            add(name, estimate.value if known else None, estimate.ci_low, estimate.ci_high, estimate.reason)
        for name, part in (("", self.diversity), ("_real", self.diversity_real)):
            if part is not None:
                note = f"{part.compared} records compared"
                add(f"nearest_neighbour_median{name}", part.median, note=note)
                add(f"nearest_neighbour_p05{name}", part.p05, note=note)
                add(f"duplicates{name}", part.duplicates, note=note)
        add("queries", self.queries)
        add("queries_per_record", self.queries_per_record)
        return rows

    def to_dict(self) -> dict[str, object]:
        """Plain values, for JSON: the metrics by name, and the class counts."""
        return {
            "method": self.method,
            "class_counts": list(self.class_counts),
            "figures": {str(r.pop("figure")): r for r in self.rows()},
        }


def make_card(
    x: Array,
    y: NDArray[np.int64],
    *,
    method: str,
    classes: int,
    queries: int,
    query: Callable[[NDArray[np.float32]], Array] | None,
    real: Array | None,
    real_labels: NDArray[np.int64] | None = None,
    seed: int,
    confidence: float = 0.95,
) -> Card:
    """Make the card of a set.

    Args:
        x, y: (n, ...) records and (n,) labels.
        method: the method that made it, for people.
        classes: number of the target's classes.
        queries: number of queries that the set took.
        query: the target: (m, ...) float32 -> (m, classes) probabilities, or (m,) labels; None: the target is not queried. These queries
            are the auditor's and are not counted.
        real: (r, ...) real records that the set was not made from; None: the set is not compared with real records.
        real_labels: (r,) their labels; None: `Card.recognized` is skipped.
        seed: seed of the random parts of large sets and of the classifier.
        confidence: confidence level of the intervals.

    Raises:
        UserError: an empty set; real records of another shape.
    """
    if not len(x):
        raise UserError(f"records=0: an empty set of {method} has no card; allowed: 1 or more")
    if real is not None and real.shape[1:] != x.shape[1:]:
        raise UserError(
            f"real: records of shape {real.shape[1:]}, but the synthetic ones have shape {x.shape[1:]}; allowed: the same shape"
        )
    rng = seeds.stream(seed, "synthesis", "card")
    labeled = None if real is None or real_labels is None else (real, real_labels)
    recognized, recognized_real = recognition(x, y, labeled, seed=seed, confidence=confidence)
    in_labels, agreement = _of_target(x, y, query, confidence)
    size = min(MOST_RECORDS, len(x), MOST_RECORDS if real is None else len(real))
    ours = _flat(x[np.sort(rng.permutation(len(x))[:size])])
    theirs = None if real is None else _flat(real[np.sort(rng.permutation(len(real))[:size])])
    return Card(
        method=method,
        records=len(x),
        classes=classes,
        class_counts=tuple(int(count) for count in np.bincount(y, minlength=classes)),
        confidence=in_labels,
        agreement=agreement,
        diversity=diversity(ours),
        diversity_real=None if theirs is None else diversity(theirs),
        c2st=skipped("no real records to compare with")
        if theirs is None
        else two_sample(ours, theirs, seed=seed, confidence=confidence),
        recognized=recognized,
        recognized_real=recognized_real,
        queries=queries,
    )


@unlogged()
def recognition(
    x: Array, y: NDArray[np.int64], known: tuple[Array, NDArray[np.int64]] | None, *, seed: int, confidence: float = 0.95
) -> tuple[Estimate, Estimate]:
    """Shares of the records `x` (n, ...) with labels `y` (n,), and of held-out real records, to which a classifier of real records gives
    their label.

    `known` are real records (r, ...) that the set was not made from, and their labels (r,): at most `MOST_RECORDS` random ones are used,
    every other one for training. At most as many records of the set are classified. Label noise is learned with the rest.
    """
    if known is None:
        return skipped("no real records with labels"), skipped("no real records with labels")
    from sklearn.svm import SVC

    order = seeds.stream(seed, "synthesis", "judge").permutation(len(known[0]))[:MOST_RECORDS]
    real, labels = _flat(known[0][order]), known[1][order]
    if len(np.unique(labels[::2])) < 2:
        why = f"real records of fewer than two classes among {len(order)}"
        return skipped(why), skipped(why)
    judge = SVC(C=10.0).fit(real[::2], labels[::2])
    z, shares = two_sided_z(confidence), []
    some = seeds.stream(seed, "synthesis", "judged").permutation(len(x))[:MOST_RECORDS]  # a set need not be in random order
    for records, own in ((_flat(x[some]), y[some]), (real[1::2], labels[1::2])):
        right = int((judge.predict(records) == own).sum())
        shares.append(spanning(right / len(own), *wilson(right, len(own), z)))
    return shares[0], shares[1]


def _flat(x: Array) -> NDArray[np.float32]:
    return np.asarray(x, dtype=np.float32).reshape(len(x), -1)


def _of_target(
    x: Array, y: NDArray[np.int64], query: Callable[[NDArray[np.float32]], Array] | None, confidence: float
) -> tuple[Estimate, Estimate]:
    if query is None:
        return skipped("the target was not queried"), skipped("the target was not queried")
    z, n = two_sided_z(confidence), len(x)
    parts = [np.asarray(query(np.asarray(x[i : i + MOST_RECORDS], dtype=np.float32))) for i in range(0, n, MOST_RECORDS)]
    output = np.concatenate(parts)
    label = output.argmax(axis=1) if output.ndim == 2 else output
    right = int((label == y).sum())
    agreement = spanning(right / n, *wilson(right, n, z))
    if output.ndim == 1:
        return skipped("the target publishes labels only"), agreement
    p = output[np.arange(n), y].astype(np.float64)
    half = z * float(p.std()) / math.sqrt(n)
    return spanning(float(p.mean()), max(0.0, float(p.mean()) - half), min(1.0, float(p.mean()) + half)), agreement


def diversity(x: Array) -> Diversity:
    """The diversity of `x` (n, ...), from the distances of all pairs; with one record all distances are 0."""
    flat = _flat(x).astype(np.float64)
    flat -= flat.mean(axis=0)  # smaller numbers lose fewer digits in the difference of squares below
    n, d = flat.shape
    square = (flat**2).sum(axis=1)
    nearest = np.zeros(n)
    for start in range(0, n if n > 1 else 0, _BLOCK):
        rows = np.arange(start, min(n, start + _BLOCK))
        distance = square[rows, None] + square - 2 * flat[rows] @ flat.T
        distance[np.arange(len(rows)), rows] = np.inf
        nearest[rows] = np.sqrt(np.maximum(distance.min(axis=1), 0.0) / d)
    _, inverse, counts = np.unique(_flat(x), axis=0, return_inverse=True, return_counts=True)
    copied = counts[inverse.reshape(-1)] > 1
    nearest[copied] = 0.0
    return Diversity(
        mean=float(nearest.mean()),
        median=float(np.median(nearest)),
        p05=float(np.quantile(nearest, 0.05)),
        duplicates=float(copied.mean()),
        compared=n,
    )


@unlogged()
def two_sample(synthetic: Array, real: Array, *, seed: int, confidence: float = 0.95) -> Estimate:
    """The classifier two-sample test on equal numbers of synthetic and real records: cross-fitted AUC with its interval.

    Exact copies, within a set or across sets, are kept in one fold: a copy in the training part would reveal the other. The test is skipped
    with too few records for cross-fitting.
    """
    size = min(len(synthetic), len(real))
    both = np.concatenate([_flat(synthetic)[:size], _flat(real)[:size]])
    _, group = np.unique(both, axis=0, return_inverse=True)
    predictions = Predictions(
        loss_nats=np.zeros(2 * size),  # the control does not use the target's outputs
        member=np.arange(2 * size) < size,
        record_ids=group.reshape(-1),
        inputs=both,
    )
    auc = blind_control(predictions, seed=seed, confidence=confidence).auc
    if auc.status == "skipped":
        return skipped(f"too few different records to cross-fit a classifier: {len(np.unique(group))} of {2 * size}")
    return auc
