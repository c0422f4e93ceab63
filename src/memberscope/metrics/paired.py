"""Compares two fixed models on the same records.

A comparison here holds for these two models alone. It does not show that one way of training leaks more than the other: with
training randomness ignored, 43% of pairs trained in the same way differ "significantly". To compare ways of training, train with
several seeds (`paired_seeds`, `verdict`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, stdtr, stdtrit

from memberscope.metrics.area import auc_value, placements
from memberscope.metrics.curve import Ranking, rank
from memberscope.metrics.decision import decide_held_out
from memberscope.metrics.estimate import Bools, Floats, Ints, check_fraction, check_scores
from memberscope.metrics.intervals import CROSS_FIT_WIDENING, newcombe_auc, two_sided_z
from memberscope.metrics.low_fpr import LOW_BUDGET, budget_reason, fp_budget, tpr_value

NOTE = "holds for these two fixed models, not for how they were trained: training again with another seed may reverse it"

# The number of array elements (draws x non-members) that the paired bootstrap holds at once: 16 MB per array.
_CELLS = 2_000_000


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`difference` = `value_a` - `value_b` on the same records, with its interval and two-sided p-value.

    `note` states for what it holds; `status` and `reason` are as in Estimate ("skipped": all numbers are nan).
    """

    value_a: float
    value_b: float
    difference: float
    ci_low: float
    ci_high: float
    p_value: float
    status: str = "ok"
    reason: str = ""
    note: str = NOTE


def compare_auc(scores_a: ArrayLike, scores_b: ArrayLike, member: ArrayLike, *, confidence: float = 0.95) -> Comparison:
    """Compare two AUCs by the paired test of DeLong et al. 1988, Eq. 6 to 8, in O(n log n).

    `scores_a`, `scores_b` (n,) of two models or attacks on the same records, `member` (n,) bool. The variance is that of
    the differences of placements, record by record; Student's t at Welch-Satterthwaite degrees of freedom, as in `auc`.
    Where the data show no variance, the interval combines those of Newcombe 2006 as if independent, and p is 1 unless it
    excludes 0.
    """
    a, b, truth = _both(scores_a, scores_b, member, confidence)
    rank_a, rank_b = rank(a, truth), rank(b, truth)
    value_a, value_b = auc_value(rank_a), auc_value(rank_b)
    difference = value_a - value_b
    apart = _placement_of_each(rank_a, a, truth) - _placement_of_each(rank_b, b, truth)
    parts = [float(side.var(ddof=1)) / side.size if side.size > 1 else math.inf for side in (apart[truth], apart[~truth])]
    variance = sum(parts)
    if not 0 < variance < math.inf:
        z = two_sided_z(confidence)
        low_a, high_a = newcombe_auc(value_a, rank_a.n_member, rank_a.n_nonmember, z)
        low_b, high_b = newcombe_auc(value_b, rank_b.n_member, rank_b.n_nonmember, z)
        low = difference - math.hypot(value_a - low_a, high_b - value_b)
        high = difference + math.hypot(high_a - value_a, value_b - low_b)
        p = 1.0 if low <= 0 <= high else 1 - confidence
        return _comparison(value_a, value_b, low, high, p)
    freedom = variance**2 / (parts[0] ** 2 / (rank_a.n_member - 1) + parts[1] ** 2 / (rank_a.n_nonmember - 1))
    error = math.sqrt(variance)
    half = float(stdtrit(freedom, 0.5 + confidence / 2)) * error
    p = 2 * float(stdtr(freedom, -abs(difference) / error))
    return _comparison(value_a, value_b, difference - half, difference + half, p)


def compare_advantage(
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    member: ArrayLike,
    *,
    rng: np.random.Generator,
    draws: int = 2000,
    confidence: float = 0.95,
) -> Comparison:
    """The difference of two held-out advantages, with the same halves for both, by a paired stratified bootstrap.

    Each record is called a member by a alone, by b alone, or in the same way by both; on either side the shares of the three are drawn from
    their Dirichlet distribution (half a record added to each of the first two), `draws` times, and spread by `CROSS_FIT_WIDENING`.
    Skipped with fewer than two records on a side.
    """
    a, b, truth = _both(scores_a, scores_b, member, confidence)
    first = np.zeros(a.size, dtype=np.bool_)
    for records in (np.flatnonzero(truth), np.flatnonzero(~truth)):
        if records.size < 2:
            return _no_comparison("a held-out threshold needs two members and two non-members")
        first[rng.permutation(records)[: records.size // 2]] = True
    called_a, called_b = _called_held_out(a, truth, first), _called_held_out(b, truth, first)
    value_a, value_b = (float(called[truth].mean() - called[~truth].mean()) for called in (called_a, called_b))
    spread = np.zeros(draws)
    for side, sign in ((truth, 1), (~truth, -1)):
        only_a, only_b = int((called_a & ~called_b)[side].sum()), int((called_b & ~called_a)[side].sum())
        shares = rng.dirichlet((only_a + 0.5, only_b + 0.5, side.sum() - only_a - only_b + 0.5), size=draws)
        spread += sign * (shares[:, 0] - shares[:, 1])
    difference = value_a - value_b
    return _from_draws(value_a, value_b, difference + (spread - difference) * CROSS_FIT_WIDENING, confidence)


def compare_tpr(
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    member: ArrayLike,
    *,
    fpr: float,
    rng: np.random.Generator,
    draws: int = 2000,
    confidence: float = 0.95,
) -> Comparison:
    """The difference of two TPRs at the same FPR, by a paired stratified bootstrap that recomputes both thresholds.

    Non-members get the same random exponential weights under a and under b (the Bayesian bootstrap: with one additional weight for the
    region beyond the records, the weighted FPRs are distributed like the true ones). The shares of members above both thresholds, above a's
    alone and above b's alone are then drawn from their Dirichlet distribution. "low_power" with fewer than ten false positives allowed.
    """
    a, b, truth = _both(scores_a, scores_b, member, confidence)
    rate = check_fraction("fpr", fpr)
    values = tpr_value(rank(a, truth), rate), tpr_value(rank(b, truth), rate)
    ranks = _paired_ranks(a[~truth], b[~truth], rate, draws, rng)
    above = [_above(scores[truth], scores[~truth], at) for scores, at in zip((a, b), ranks, strict=True)]
    both = _above_both(a, b, truth, ranks)
    n_member = int(truth.sum())
    only_a, only_b = above[0] - both, above[1] - both
    # Dirichlet draws by way of gammas, with one triple of counts per draw.
    alike = rng.standard_gamma(n_member - only_a - only_b + 0.5)
    gamma_a, gamma_b = rng.standard_gamma(only_a + 0.5), rng.standard_gamma(only_b + 0.5)
    budget = int(np.count_nonzero(~truth))
    low_power = fp_budget(budget, rate) < LOW_BUDGET
    return _from_draws(
        *values,
        (gamma_a - gamma_b) / (gamma_a + gamma_b + alike),
        confidence,
        status="low_power" if low_power else "ok",
        reason=budget_reason(budget, rate) if low_power else "",
    )


def _both(scores_a: ArrayLike, scores_b: ArrayLike, member: ArrayLike, confidence: float) -> tuple[Floats, Floats, Bools]:
    check_fraction("confidence", confidence)
    a, truth = check_scores(scores_a, member)
    b, _ = check_scores(scores_b, member)
    # A canonical order of the records, so that the draws do not depend on the order of the input.
    order = np.lexsort((truth, b, a))
    return a[order], b[order], truth[order]


def _placement_of_each(ranking: Ranking, scores: Floats, truth: Bools) -> Floats:
    block = np.searchsorted(-ranking.thresholds, -scores, side="left")
    below, above = placements(ranking)
    return np.where(truth, below[block], above[block])


def _called_held_out(scores: Floats, truth: Bools, first: Bools) -> Bools:
    ranking = rank(scores, truth)
    block = np.searchsorted(-ranking.thresholds, -scores, side="left")
    halves = tuple(
        np.r_[0, np.cumsum(np.bincount(block[first & side], minlength=ranking.thresholds.size))] for side in (truth, ~truth)
    )
    decision = decide_held_out(ranking, (halves[0], halves[1]))
    if decision is None:
        raise AssertionError("the halves were passed in")
    of_first, of_second = decision.thresholds
    return scores >= np.where(first, of_second, of_first)


def _paired_ranks(a: Floats, b: Floats, fpr: float, draws: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Ranks (draws,) of the non-members at the two thresholds: 1 is the highest, n + 1 is below all."""
    n = a.size
    reach = min(n, int(n * fpr + 7 * math.sqrt(n * fpr) + 15))
    order_a, order_b = np.argsort(-a, kind="stable")[:reach], np.argsort(-b, kind="stable")[:reach]
    region = np.union1d(order_a, order_b)  # only these can lie above a threshold
    at_a, at_b = np.searchsorted(region, order_a), np.searchsorted(region, order_b)
    side = rng.integers(0, 2, size=draws)
    out_a, out_b = np.empty(draws, dtype=np.int64), np.empty(draws, dtype=np.int64)
    for start in range(0, draws, step := max(1, _CELLS // region.size)):
        rows = slice(start, min(start + step, draws))
        size = rows.stop - rows.start
        weight = rng.standard_exponential((size, region.size))
        allowed = fpr * (weight.sum(axis=1) + rng.standard_gamma(n + 1 - region.size, size=size))
        for out, at in ((out_a, at_a), (out_b, at_b)):
            out[rows] = (np.cumsum(weight[:, at], axis=1) <= allowed[:, None]).sum(axis=1)
    return out_a + side, out_b + side


def _cuts(nonmember_scores: Floats, ranks: Ints) -> Floats:
    """The score of the non-member of each rank; +inf for rank 0, -inf past the last."""
    cuts: Floats = np.r_[np.inf, np.sort(nonmember_scores)[::-1], -np.inf][ranks]
    return cuts


def _above(member_scores: Floats, nonmember_scores: Floats, ranks: Ints) -> Ints:
    ordered = np.sort(member_scores)
    return np.asarray(ordered.size - np.searchsorted(ordered, _cuts(nonmember_scores, ranks), side="right"), dtype=np.int64)


def _above_both(a: Floats, b: Floats, truth: Bools, ranks: tuple[Ints, Ints]) -> Ints:
    """Members strictly above both thresholds of each draw, from one table over the distinct thresholds."""
    cuts_a, index_a = np.unique(_cuts(a[~truth], ranks[0]), return_inverse=True)
    cuts_b, index_b = np.unique(_cuts(b[~truth], ranks[1]), return_inverse=True)
    passed_a = np.searchsorted(cuts_a, a[truth], side="left")  # how many of the cuts the member is strictly above
    passed_b = np.searchsorted(cuts_b, b[truth], side="left")
    width = cuts_b.size + 1
    table = np.bincount(passed_a * width + passed_b, minlength=(cuts_a.size + 1) * width).reshape(-1, width)
    beyond = table[::-1, ::-1].cumsum(axis=0).cumsum(axis=1)[::-1, ::-1]
    return np.asarray(beyond[index_a + 1, index_b + 1], dtype=np.int64)


def _comparison(
    value_a: float, value_b: float, low: float, high: float, p_value: float, *, status: str = "ok", reason: str = ""
) -> Comparison:
    difference = value_a - value_b
    return Comparison(
        value_a=value_a,
        value_b=value_b,
        difference=difference,
        ci_low=max(-1.0, min(low, difference)),
        ci_high=min(1.0, max(high, difference)),
        p_value=p_value,
        status=status,
        reason=reason,
    )


def _from_draws(
    value_a: float, value_b: float, draws: Floats, confidence: float, *, status: str = "ok", reason: str = ""
) -> Comparison:
    low, high = np.quantile(draws, (0.5 - confidence / 2, 0.5 + confidence / 2))
    tail = min(np.count_nonzero(draws <= 0), np.count_nonzero(draws >= 0))
    p_value = min(1.0, 2 * (1 + int(tail)) / (1 + draws.size))
    return _comparison(value_a, value_b, float(low), float(high), p_value, status=status, reason=reason)


def _no_comparison(reason: str) -> Comparison:
    nan = math.nan
    return Comparison(
        value_a=nan, value_b=nan, difference=nan, ci_low=nan, ci_high=nan, p_value=nan, status="skipped", reason=reason
    )


def compare_accuracy(
    correct_a: ArrayLike, correct_b: ArrayLike, *, groups: ArrayLike | None = None, confidence: float = 0.95
) -> Comparison:
    """Compare the accuracies of two models on the same records.

    Without groups, the interval is that of Agresti and Min 2005 ("Simple improved confidence intervals for comparing matched proportions",
    section 3) for matched proportions: half a record is added to each of the four cells of correct and wrong answers, which keeps its
    coverage near the nominal one also where few records are answered differently. Where records have groups, the records' differences are
    summed by group, and the interval is Student's t over the groups.

    Args:
        correct_a, correct_b: (n,) bool, whether each model's answer for a record is correct.
        groups: (n,) the groups of the records, where these may be correlated.
        confidence: of the interval.

    Returns:
        Accuracies, their difference, its interval in [-1, 1] and two-sided p-value.

    Raises:
        ValueError: no records, or arrays of unequal lengths.
    """
    check_fraction("confidence", confidence)
    a, b = np.asarray(correct_a, dtype=np.float64), np.asarray(correct_b, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"answers of shapes {a.shape} and {b.shape}; allowed: one per record, at least one")
    apart, n = a - b, len(a)
    if groups is None:
        only_a, only_b, size = float((apart > 0).sum()) + 0.5, float((apart < 0).sum()) + 0.5, n + 2.0
        middle = (only_a - only_b) / size
        error = math.sqrt(only_a + only_b - (only_a - only_b) ** 2 / size) / size
        half, p = two_sided_z(confidence) * error, 2 * float(ndtr(-abs(middle) / error))
    else:
        _, code = np.unique(np.asarray(groups), return_inverse=True)
        code = code.reshape(-1)
        count = int(code.max()) + 1
        middle = float(apart.mean())
        of_group = np.bincount(code, weights=apart - middle, minlength=count)
        error = math.sqrt(count / (count - 1) * float(of_group @ of_group)) / n if count > 1 else math.inf
        if not math.isfinite(error):
            return _comparison(float(a.mean()), float(b.mean()), -1.0, 1.0, 1.0)
        error = error or 1.0 / (count + 2.0)  # no variance in the data: as without groups, of as many records
        half, p = float(stdtrit(count - 1, 0.5 + confidence / 2)) * error, 2 * float(stdtr(count - 1, -abs(middle) / error))
    return _comparison(float(a.mean()), float(b.mean()), max(-1.0, middle - half), min(1.0, middle + half), p)
