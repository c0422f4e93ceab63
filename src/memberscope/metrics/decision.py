"""Metrics of one decision rule, "a member if the score is at least a threshold": advantage, balanced accuracy, PPV."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from memberscope.metrics.curve import Ranking, Roc, rank, roc_of
from memberscope.metrics.estimate import Estimate, Ints, check_fraction, skipped, spanning
from memberscope.metrics.intervals import CROSS_FIT_WIDENING, melded_ratio, newcombe_difference, two_sided_z, widened_miss

_TOO_FEW = "a held-out threshold needs two members and two non-members"
_OPTIMISTIC = "the largest of many thresholds on the same records: biased upward, so no interval"


@dataclass(frozen=True, kw_only=True)
class Decision:
    """How often members and non-members were called members, at one threshold or pooled over two cross-fitted ones.

    `thresholds` holds either the one threshold, or two: that of the first half, scored on the second, and the reverse.
    """

    thresholds: tuple[float, ...]
    true_pos: int
    false_pos: int
    n_member: int
    n_nonmember: int

    @property
    def widening(self) -> float:
        """The factor on an interval's z that accounts for the correlation of the two halves' errors."""
        return CROSS_FIT_WIDENING if len(self.thresholds) == 2 else 1.0


def decide(ranking: Ranking, threshold: float) -> Decision:
    """The Decision at a threshold that was not chosen on these records."""
    true_pos, false_pos = ranking.at_or_above(threshold)
    return Decision(
        thresholds=(threshold,),
        true_pos=true_pos,
        false_pos=false_pos,
        n_member=ranking.n_member,
        n_nonmember=ranking.n_nonmember,
    )


def decide_held_out(ranking: Ranking, halves: tuple[Ints, Ints] | None) -> Decision | None:
    """The cross-fitted Decision: each half at the threshold of greatest TPR - FPR of the other; None without halves."""
    if halves is None:
        return None
    first_tp, first_fp = halves
    second_tp, second_fp = ranking.true_pos - first_tp, ranking.false_pos - first_fp
    at_first, at_second = _best(first_tp, first_fp), _best(second_tp, second_fp)
    thresholds = np.r_[np.inf, ranking.thresholds]
    return Decision(
        thresholds=(float(thresholds[at_first]), float(thresholds[at_second])),
        true_pos=int(second_tp[at_first] + first_tp[at_second]),
        false_pos=int(second_fp[at_first] + first_fp[at_second]),
        n_member=ranking.n_member,
        n_nonmember=ranking.n_nonmember,
    )


def _best(true_pos: Ints, false_pos: Ints) -> int:
    # Integers, so that equally good thresholds compare equal; the highest of them is taken.
    return int(np.argmax(true_pos * int(false_pos[-1]) - false_pos * int(true_pos[-1])))


def advantage(scores_or_roc: ArrayLike | Roc, member: ArrayLike | None = None) -> Estimate:
    """The largest TPR - FPR over thresholds, signed (0 at worst: no record is called a member); Yeom et al. 2018, Definition 4.

    It takes `scores` (n,) and `member` (n,) bool, or a Roc. The threshold is chosen on the records on which it is measured, so that
    it is above 0 even without signal (0.15 on average with 30 records on each side). It therefore has no interval;
    `advantage_heldout` has one.
    """
    roc = _roc(scores_or_roc, member)
    return Estimate(value=float(np.max(roc.tpr - roc.fpr)), reason=_OPTIMISTIC)


def advantage_of(ranking: Ranking) -> Estimate:
    """`advantage` of a Ranking."""
    fpr, tpr = ranking.corners
    return Estimate(value=float(np.max(tpr - fpr)), reason=_OPTIMISTIC)


def advantage_tfp(scores_or_roc: ArrayLike | Roc, member: ArrayLike | None = None) -> Estimate:
    """The largest ``|TPR - FPR|`` over thresholds: `RocCurve.get_attacker_advantage` of tensorflow_privacy, to the last digit.

    It credits an attack that is wrong more often than right, and is biased upward more than `advantage`. No interval.
    """
    roc = _roc(scores_or_roc, member)
    return Estimate(value=float(np.max(np.abs(roc.tpr - roc.fpr))), reason=_OPTIMISTIC)


def advantage_tfp_of(ranking: Ranking) -> Estimate:
    """`advantage_tfp` of a Ranking."""
    fpr, tpr = ranking.corners
    return Estimate(value=float(np.max(np.abs(tpr - fpr))), reason=_OPTIMISTIC)


def _roc(scores_or_roc: ArrayLike | Roc, member: ArrayLike | None) -> Roc:
    if isinstance(scores_or_roc, Roc):
        return scores_or_roc
    if member is None:
        raise ValueError("member is needed as well as scores")
    return roc_of(rank(scores_or_roc, member))


def advantage_heldout(scores: ArrayLike, member: ArrayLike, *, rng: np.random.Generator, confidence: float = 0.95) -> Estimate:
    """TPR - FPR at thresholds chosen on other records: the advantage that an attacker can count on.

    Members and non-members are halved at random; the threshold of greatest TPR - FPR in each half (the highest of equally
    good ones) is scored on the other, and the counts are pooled. The estimand is the mean true advantage of the two
    thresholds: no more than the best threshold's, and 0 or near it without signal. (Where scores reveal only the class and members were
    drawn stratified by class, a class with too many members in one half has too few in the other: the mean was -0.02 to -0.045 at 400
    records and -0.01 to -0.025 at 2,000, 2 to 100 classes, with intervals below 0 in at most 2% of draws.) Interval: Newcombe 1998, method
    10, its z widened by `CROSS_FIT_WIDENING` for the correlation of the halves. Skipped with fewer than two records on a side; ValueError
    on bad input.
    """
    ranking = rank(scores, member)
    return advantage_heldout_of(decide_held_out(ranking, ranking.halves(rng)), confidence=confidence)


def advantage_heldout_of(decision: Decision | None, *, confidence: float = 0.95) -> Estimate:
    """TPR - FPR of a Decision with its interval; skipped for None."""
    check_fraction("confidence", confidence)
    if decision is None:
        return skipped(_TOO_FEW)
    counts = (decision.true_pos, decision.n_member, decision.false_pos, decision.n_nonmember)
    low, high = newcombe_difference(*counts, two_sided_z(confidence) * decision.widening)
    value = decision.true_pos / decision.n_member - decision.false_pos / decision.n_nonmember
    return spanning(value, max(low, -1.0), min(high, 1.0), reason=_at(decision))


def balanced_accuracy(
    scores: ArrayLike,
    member: ArrayLike,
    *,
    threshold: float | None = None,
    rng: np.random.Generator | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """(share of members called members + share of non-members called non-members) / 2 (Song & Mittal 2021, section 5).

    It is taken at `threshold`, which must not come from these records (but from shadow models, say); or, without one, at the
    held-out thresholds of `advantage_heldout`, for which `rng` is needed. It equals (1 + TPR - FPR) / 2, and its interval
    follows from this. It is 0.5 without signal.
    """
    ranking = rank(scores, member)
    if threshold is not None:
        return balanced_accuracy_of(decide(ranking, _finite(threshold)), confidence=confidence)
    if rng is None:
        raise ValueError("balanced_accuracy needs a threshold, or an rng to hold records out for one")
    return balanced_accuracy_of(decide_held_out(ranking, ranking.halves(rng)), confidence=confidence)


def balanced_accuracy_of(decision: Decision | None, *, confidence: float = 0.95) -> Estimate:
    """The balanced accuracy of a Decision; skipped for None."""
    difference = advantage_heldout_of(decision, confidence=confidence)
    if difference.ci_low is None or difference.ci_high is None:
        return difference
    return spanning(
        (1 + difference.value) / 2, (1 + difference.ci_low) / 2, (1 + difference.ci_high) / 2, reason=difference.reason
    )


def ppv(scores: ArrayLike, member: ArrayLike, *, threshold: float, prior: float = 0.5, confidence: float = 0.95) -> Estimate:
    """The share of true members among those called members, where a share `prior` of all candidates are members (Jayaraman et al. 2021).

    It is prior TPR / (prior TPR + (1 - prior) FPR), at a `threshold` that must not come from these records. Interval: the melded
    one of FPR / TPR, transformed. Skipped where no record is called a member; ValueError on bad input.
    """
    return ppv_of(decide(rank(scores, member), _finite(threshold)), prior=prior, confidence=confidence)


def ppv_of(decision: Decision | None, *, prior: float = 0.5, confidence: float = 0.95) -> Estimate:
    """The positive predictive value of a Decision; skipped for None."""
    odds = (1 - check_fraction("prior", prior)) / prior
    check_fraction("confidence", confidence)
    if decision is None:
        return skipped(_TOO_FEW)
    x0, n0, x1, n1 = decision.true_pos, decision.n_member, decision.false_pos, decision.n_nonmember
    if x0 + x1 == 0:
        return skipped(f"no record is called a member {_at(decision)}")
    low, high = melded_ratio(x1, n1, x0, n0, widened_miss(confidence, decision.widening))
    value = 1 / (1 + odds * (x1 / n1) / (x0 / n0)) if x0 else 0.0
    return spanning(value, 1 / (1 + odds * high), 1 / (1 + odds * low), reason=f"prior {prior:g}, {_at(decision)}")


def ppv_max_tfp(scores: ArrayLike, member: ArrayLike) -> Estimate:
    """tensorflow_privacy's PPV: the largest over thresholds, with the share of members among the records as the prior. No interval.

    It is 1.0 as soon as the highest score is a member's (`RocCurve.get_ppv`, reproduced with its tolerance of 1e-3 within which
    a rate counts as 0 and its value n_member / n where both do).
    """
    return ppv_max_tfp_of(rank(scores, member))


def ppv_max_tfp_of(ranking: Ranking) -> Estimate:
    """`ppv_max_tfp` of a Ranking."""
    fpr, tpr = ranking.corners
    ratio = ranking.n_nonmember / ranking.n_member
    denominator = tpr + fpr * ratio
    share = np.divide(tpr, denominator, out=np.zeros_like(denominator), where=denominator != 0)
    both_zero = np.isclose(tpr, 0.0, atol=1e-3) & np.isclose(fpr, 0.0, atol=1e-3)
    return Estimate(value=float(np.max(np.where(both_zero, 1 / (1 + ratio), share))), reason=_OPTIMISTIC)


def _at(decision: Decision) -> str:
    if len(decision.thresholds) == 1:
        return f"at the threshold {decision.thresholds[0]:g}"
    return "at thresholds {:g} and {:g}, each chosen on the other half".format(*decision.thresholds)


def _finite(threshold: float) -> float:
    if math.isnan(threshold):
        raise ValueError("threshold is nan")
    return float(threshold)
