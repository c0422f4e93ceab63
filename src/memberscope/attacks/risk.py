"""Privacy risk of single records (Song & Mittal, USENIX Security 2021, section 5): P(member | value, class), cross-fitted.

Their privacy risk score turns two histograms of the modified entropy, of members and of non-members with the record's
label, into the posterior probability of membership at equal priors. tensorflow_privacy reads a record's probability off
histograms that the record itself is in: on pure noise that gives an AUC of 0.59 at 200 records. Here a record's bins are
counted on the other folds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope import seeds, signals
from memberscope.attacks import folds as fold_plan
from memberscope.attacks.base import Skip
from memberscope.attacks.crossfit import FOLDS, shortage
from memberscope.checks import Array, FloatArray
from memberscope.errors import UserError
from memberscope.predictions import Predictions

BINS = 15
_PRIOR_RECORDS = 20.0
_SIGNALS = ("modified_entropy", "loss_nats", "entropy_nats", "correctness")


@dataclass(frozen=True, kw_only=True, eq=False)
class PrivacyRisk:
    """The risk of each of n records.

    Attributes:
        probability: (n,) P(member | value, class) at equal priors, in (0, 1).
        signal: what was binned.
        value: (n,) the signal, turned so that higher = more likely a member.
        rank: (n,) 0 for the most exposed; equal probabilities by value, then by position.
        folds: (n,) the record's fold; its probability was counted on the other folds.
    """

    probability: FloatArray
    signal: str
    value: FloatArray
    rank: NDArray[np.intp]
    folds: NDArray[np.intp]

    @property
    def order(self) -> NDArray[np.intp]:
        """Positions of the records, the most exposed first."""
        return np.argsort(self.rank)


@dataclass(frozen=True, kw_only=True)
class Lift:
    """How many of the `k` riskiest records are members, against chance.

    Attributes:
        k: the number of riskiest records.
        members: the number of members among them.
        precision: members / k, with its 95% Clopper-Pearson interval.
        precision_low: lower end.
        precision_high: upper end.
        prior: share of members among all records.
        lift: precision / prior; its interval is that of the precision over the prior.
        lift_low: lower end.
        lift_high: upper end.
    """

    k: int
    members: int
    precision: float
    precision_low: float
    precision_high: float
    prior: float
    lift: float
    lift_low: float
    lift_high: float


def _posterior(bins: Array, labels: Array, member: Array, part: Array, scored: Array, n_bins: int) -> FloatArray:
    """P(member | bin, class) at equal priors for `scored`, counted on `part`; the rates of small classes are shrunk toward those of all
    classes.

    In each class, the records of the larger side together weigh as much as those of the smaller, so that it does not matter in which shares
    the two sides hold the classes (see `folds`). A class that only one side has uses the rates of all classes; where the sides have no
    class in common, classes are not distinguished at all.
    """
    classes = int(labels.max()) + 1
    tables = [
        np.bincount(labels[here] * n_bins + bins[here], minlength=classes * n_bins).reshape(classes, n_bins).astype(np.float64)
        for here in (part[member[part]], part[~member[part]])
    ]
    sizes = [table.sum(axis=1, keepdims=True) for table in tables]
    shared = np.minimum(*sizes)
    if not shared.any():
        return _posterior(bins, np.zeros_like(labels), member, part, scored, n_bins)
    rates = []
    for table, size in zip(tables, sizes, strict=True):
        table *= np.divide(shared, size, out=np.zeros_like(size), where=size > 0)
        overall = table.sum(axis=0) + 0.5
        overall /= overall.sum()
        rates.append((table + _PRIOR_RECORDS * overall) / (shared + _PRIOR_RECORDS))
    ins, outs = (rate[labels[scored], bins[scored]] for rate in rates)
    probability: FloatArray = ins / (ins + outs)
    return probability


def privacy_risk(predictions: Predictions, *, seed: int, folds: int = FOLDS, bins: int = BINS) -> PrivacyRisk | Skip:
    """The risk of every record, from its modified entropy, or from its loss, entropy or correctness if nothing else is available.

    Bin edges are quantiles of the other folds' values, so that no bin is nearly empty as with tensorflow_privacy's
    logarithmic ones; each class's histogram is shrunk toward that of all classes by 20 records' weight.

    Raises:
        UserError: `folds` or `bins` below 2.
    """
    if folds < 2 or bins < 2:
        raise UserError(f"folds and bins: {folds} and {bins}; allowed: 2 or more")
    reason = shortage(predictions, folds)
    if reason is not None:
        return Skip(attack="privacy_risk", family="risk", reason=reason)
    signal = signals.get(next(name for name in _SIGNALS if not signals.missing(name, predictions)))
    value = signal.sign * signal(predictions)
    member, labels = predictions.member, predictions.labels
    order = fold_plan.canonical_order(value[:, None], member, labels, predictions.units)
    fold_of = fold_plan.assign(order, member, labels, predictions.units, folds, seeds.stream(seed, "risk", "folds"))
    of_class = np.zeros(len(value), dtype=np.intp) if labels is None else np.unique(labels, return_inverse=True)[1]
    probability = np.empty(len(value))
    for fold in range(folds):
        part, scored = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        edges = np.unique(np.quantile(value[part], np.linspace(0, 1, bins + 1)[1:-1]))
        binned = np.searchsorted(edges, value, side="right")
        probability[scored] = _posterior(binned, of_class, member, part, scored, len(edges) + 1)
    rank = np.empty(len(value), dtype=np.intp)
    rank[np.lexsort((-value, -probability))] = np.arange(len(value))
    return PrivacyRisk(probability=probability, signal=signal.name, value=value, rank=rank, folds=fold_of)


def most_exposed(risk: PrivacyRisk, predictions: Predictions, *, top: int, members_only: bool = True) -> list[dict[str, Any]]:
    """The `top` riskiest records as rows of a table.

    Returns:
        Rows with ``rank`` (from 1, among all records), ``position``, ``record_id`` and ``label`` (None where unknown),
        ``member``, ``probability``, and the signal's own value under its name.
    """

    def rows() -> Iterator[dict[str, Any]]:
        sign = signals.get(risk.signal).sign
        for position in risk.order:
            if members_only and not predictions.member[position]:
                continue
            yield {
                "rank": int(risk.rank[position]) + 1,
                "position": int(position),
                "record_id": None if predictions.record_ids is None else predictions.record_ids[position].item(),
                "label": None if predictions.labels is None else predictions.labels[position].item(),
                "member": bool(predictions.member[position]),
                "probability": float(risk.probability[position]),
                risk.signal: float(sign * risk.value[position]),
            }

    return [row for row, _ in zip(rows(), range(top), strict=False)]


def lift(risk: PrivacyRisk, predictions: Predictions, *, k: int) -> Lift:
    """Precision and lift of the `k` riskiest records, with 95% Clopper-Pearson intervals.

    Raises:
        UserError: `k` not between 1 and the number of records.
    """
    from scipy.stats import beta

    n = len(predictions)
    if not 1 <= k <= n:
        raise UserError(f"k: {k}; allowed: 1 to {n}, the number of records")
    members = int(predictions.member[risk.order[:k]].sum())
    low = 0.0 if members == 0 else float(beta.ppf(0.025, members, k - members + 1))
    high = 1.0 if members == k else float(beta.ppf(0.975, members + 1, k - members))
    precision, prior = members / k, predictions.n_member / n
    return Lift(
        k=k,
        members=members,
        precision=precision,
        precision_low=low,
        precision_high=high,
        prior=prior,
        lift=precision / prior,
        lift_low=low / prior,
        lift_high=high / prior,
    )
