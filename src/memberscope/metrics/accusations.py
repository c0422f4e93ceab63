"""Accusations of membership at a low false positive rate: how much more likely members are to be accused than others, how many
accusations are right at a stated prior, and how many people they find or wrongly accuse.

An attacker accuses every record whose score lies above a threshold. The threshold here is the one that an audit sets on its own
non-members: the lowest that accuses at most ``floor(fpr * n_nonmember)`` of them, as for `tpr_at_fpr`.

Both rates of that threshold are uncertain, and both intervals are exact or conservative although the threshold was chosen on the
non-members: members played no part in the choice, so that the number of accused members is binomial; and the true false positive rate
of a threshold just above the (k + 1)-th highest of n non-members is Beta(k + 1, n - k), which Clopper and Pearson's interval of k among
n covers. Ratios and precision combine the two by melding (Fay, Proschan & Brittain 2015, "Combining one-sample confidence procedures for
inference in the two-sample case"): an end of the interval is a quantile of the function of both rates where these are drawn from the
Beta distributions whose quantiles are the one-sided Clopper-Pearson ends. In simulations it covers .95 to .99, where Koopman's score
interval, which takes the threshold as given, covers .91 with two false positives allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from memberscope.metrics.curve import Ranking, rank
from memberscope.metrics.decision import Decision
from memberscope.metrics.estimate import Estimate, check_fraction, skipped, spanning
from memberscope.metrics.intervals import (
    clopper_pearson_high,
    clopper_pearson_low,
    melded_ratio,
    two_sided_z,
    widened_miss,
    wilson,
)
from memberscope.metrics.low_fpr import LOW_BUDGET, allowed_false_positives, budget_reason, fp_budget


@dataclass(frozen=True, kw_only=True)
class Accusations:
    """How many records on each side have a score above the audit's threshold.

    Attributes:
        true_pos, false_pos: the accused members and non-members.
        n_member, n_nonmember: all members and non-members.
    """

    true_pos: int
    false_pos: int
    n_member: int
    n_nonmember: int


_UNBOUNDED = "the value is a lower bound: no non-member is accused, so that the ratio has no upper end"


def accuse(ranking: Ranking, fpr: float) -> Accusations | None:
    """The accusations at the audit's threshold for a false positive rate; None where it allows fewer than one false positive."""
    k = allowed_false_positives(ranking.n_nonmember, check_fraction("fpr", fpr, closed=True))
    if k < 1:
        return None
    at = int(np.searchsorted(ranking.false_pos, k, side="right")) - 1  # the lowest threshold that accuses at most k
    return Accusations(
        true_pos=int(ranking.true_pos[at]),
        false_pos=int(ranking.false_pos[at]),
        n_member=ranking.n_member,
        n_nonmember=ranking.n_nonmember,
    )


def ppv_at_fpr(scores: ArrayLike, member: ArrayLike, *, fpr: float, prior: float, confidence: float = 0.95) -> Estimate:
    """The share of members among the accused, where a share `prior` of all candidates are members:

    ``prior TPR / (prior TPR + (1 - prior) FPR)``, with both rates at the audit's threshold for `fpr`.

    `scores` (n,), higher = more likely a member; `member` (n,) bool. At a prior of n_member / n it is the precision on these records. With
    fewer than ten false positives allowed, the status is "low_power"; skipped where fewer than one is allowed, or where nobody is accused.
    ValueError on bad input.
    """
    return ppv_at_fpr_of(rank(scores, member), fpr=fpr, prior=prior, confidence=confidence)


def ppv_at_fpr_of(ranking: Ranking, *, fpr: float, prior: float, confidence: float = 0.95) -> Estimate:
    """`ppv_at_fpr` of a Ranking."""
    return _of_accusations(ranking, fpr, lambda made: precision(made, fpr=fpr, prior=prior, confidence=confidence))


def precision(made: Accusations, *, fpr: float, prior: float, confidence: float = 0.95) -> Estimate:
    """The PPV of accusations at a prior, with its melded interval."""
    odds = (1 - check_fraction("prior", prior)) / prior
    if made.true_pos + made.false_pos == 0:
        return skipped(f"nobody is accused at an FPR of {fpr:g}")
    low, high = fpr_over_tpr_interval(made, 1 - check_fraction("confidence", confidence))
    true_rate, false_rate = made.true_pos / made.n_member, made.false_pos / made.n_nonmember
    value = true_rate / (true_rate + odds * false_rate)
    status, reason = _power(made, fpr)
    return spanning(value, 1 / (1 + odds * high), 1 / (1 + odds * low), status=status, reason=reason)


def lift_at_fpr(scores: ArrayLike, member: ArrayLike, *, fpr: float, confidence: float = 0.95) -> Estimate:
    """How many times more likely a member is to be accused than a non-member: TPR / FPR, both at the audit's threshold for `fpr`.

    `scores` (n,), higher = more likely a member; `member` (n,) bool. 1 without signal. Where ties leave only members accused, the ratio has
    no upper end, and `value` is the lower end of its interval. Skipped where the rate allows fewer than one false positive, or where nobody
    is accused. ValueError on bad input.
    """
    return lift_at_fpr_of(rank(scores, member), fpr=fpr, confidence=confidence)


def lift_at_fpr_of(ranking: Ranking, *, fpr: float, confidence: float = 0.95) -> Estimate:
    """`lift_at_fpr` of a Ranking."""
    return _of_accusations(ranking, fpr, lambda made: lift(made, fpr=fpr, confidence=confidence))


def lift(made: Accusations, *, fpr: float, confidence: float = 0.95) -> Estimate:
    """TPR / FPR of accusations, with its melded interval; only its lower end if only members are accused."""
    if made.true_pos + made.false_pos == 0:
        return skipped(f"nobody is accused at an FPR of {fpr:g}")
    low, high = fpr_over_tpr_interval(made, 1 - check_fraction("confidence", confidence))
    status, reason = _power(made, fpr)
    if made.false_pos == 0:
        return _at_least(1 / high, status=status, reason="; ".join(filter(None, [_UNBOUNDED, reason])))
    value = (made.true_pos / made.n_member) / (made.false_pos / made.n_nonmember)
    return spanning(value, 1 / high, 1 / low, status=status, reason=reason)


def found_at_fpr_of(ranking: Ranking, *, fpr: float, subjects: int, confidence: float = 0.95) -> Estimate:
    """The expected number of members found among `subjects`, the people in the training set, at the audit's threshold for `fpr`."""
    return _of_accusations(ranking, fpr, lambda made: found(made, fpr=fpr, subjects=subjects, confidence=confidence))


def found(made: Accusations, *, fpr: float, subjects: int, confidence: float = 0.95) -> Estimate:
    """``subjects TPR``: the expected number of members found; the interval is Clopper and Pearson's of the TPR."""
    return _expected(made.true_pos, made.n_member, subjects, _power(made, fpr), confidence)


def lift_of(decision: Decision | None, *, confidence: float = 0.95) -> Estimate:
    """TPR / FPR of a Decision whose thresholds come from other records, with its melded interval, or its lower end alone where only members
    are called members. Skipped for None, and where nobody is.
    """
    if decision is None:
        return skipped("a held-out threshold needs two members and two non-members")
    fp, n0, tp, n1 = decision.false_pos, decision.n_nonmember, decision.true_pos, decision.n_member
    if tp + fp == 0:
        return skipped("nobody is called a member")
    low, high = melded_ratio(fp, n0, tp, n1, widened_miss(confidence, decision.widening))
    if fp == 0:
        return _at_least(1 / high, reason=_UNBOUNDED)
    return spanning((tp / n1) / (fp / n0), 1 / high, 1 / low)


def found_of(decision: Decision | None, *, subjects: int, confidence: float = 0.95) -> Estimate:
    """``subjects TPR`` of a Decision whose thresholds come from other records, with Wilson's interval. Skipped for None."""
    if decision is None:
        return skipped("a held-out threshold needs two members and two non-members")
    low, high = wilson(decision.true_pos, decision.n_member, two_sided_z(confidence) * decision.widening)
    return spanning(subjects * decision.true_pos / decision.n_member, subjects * low, subjects * high)


def wrongly_accused(made: Accusations, *, fpr: float, subjects: int, prior: float, confidence: float = 0.95) -> Estimate:
    """``subjects (1 - prior) / prior FPR``: the expected number of wrong accusations among the candidates who are not members.

    Where `subjects` members are a share `prior` of all candidates, ``subjects (1 - prior) / prior`` candidates are not members. The
    interval is Clopper and Pearson's of the FPR.
    """
    outsiders = subjects * (1 - check_fraction("prior", prior)) / prior
    return _expected(made.false_pos, made.n_nonmember, outsiders, _power(made, fpr), confidence)


def _expected(accused: int, of: int, people: float, power: tuple[str, str], confidence: float) -> Estimate:
    miss = 1 - check_fraction("confidence", confidence)
    ends = clopper_pearson_low(accused, of, miss / 2), clopper_pearson_high(accused, of, miss / 2)
    status, reason = power
    return spanning(people * accused / of, people * ends[0], people * ends[1], status=status, reason=reason)


def _of_accusations(ranking: Ranking, fpr: float, metric: Callable[[Accusations], Estimate]) -> Estimate:
    """A metric of the accusations at a rate; skipped where the rate allows fewer than one false positive."""
    made = accuse(ranking, fpr)
    return skipped(too_few(ranking.n_nonmember, fpr)) if made is None else metric(made)


def _at_least(low: float, *, status: str = "ok", reason: str) -> Estimate:
    return Estimate(value=low, ci_low=low, status=status, reason=reason)


def too_few(n_nonmember: int, fpr: float) -> str:
    """Why nothing can be stated at a rate."""
    return f"an FPR of {fpr:g} needs at least {int(np.ceil(1 / fpr - 1e-9)):,} non-members to be told from 0; there are {n_nonmember:,}"


def _power(made: Accusations, fpr: float) -> tuple[str, str]:
    low = fp_budget(made.n_nonmember, fpr) < LOW_BUDGET
    return ("low_power", budget_reason(made.n_nonmember, fpr)) if low else ("ok", "")


def fpr_over_tpr_interval(made: Accusations, miss: float) -> tuple[float, float]:
    """The melded interval of FPR / TPR, `miss` beyond its ends; from 0 where no non-member is accused, to inf where no member is."""
    return melded_ratio(made.false_pos, made.n_nonmember, made.true_pos, made.n_member, miss)
