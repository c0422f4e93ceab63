"""How often an attack finds each record over several targets, at a false positive rate of all records together and at the record's own.

An attack gives every record a score under each target. A record is *found* under a target that was trained on it if its score passes a
threshold.

- **Pooled**: one threshold for each target, passed by at most the stated share of that target's non-members, as in TPR at FPR. The share
  holds over records: it leaves some of them with false positive rates far above the stated one, and others with none. So the rate at
  which the record is accused falsely, under the targets that were not trained on it, is given next to the rate at which it is found.
- **Own**: a threshold for each record, from its scores under the targets that were not trained on it (Carlini et al. 2022, Eq. 4). With m
  such scores, a threshold that only ranks them (a score is found if it is among the floor(fpr (m + 1)) largest of the m + 1) has exactly
  the stated rate, but exists only from m = 1/fpr - 1 on, 99 targets that leave the record out for a rate of .01, and is known well only
  where ten of them may pass. With fewer, the scores are taken as normal: the threshold is Student's prediction limit, mean + t sqrt(1 +
  1/m) sd with m - 1 degrees of freedom, whose rate is the stated one at every m from 2 on if they are. Whether they are is seen from the
  rate at which the OUT scores themselves pass limits that are made without them (`Detection.false_rate`).

The other model of a target's complementary pair never takes part in its threshold.

**Intervals.** Pooled: Clopper and Pearson's over targets, at the thresholds that were used. Own: the rate at which the record is found by
a threshold with exactly the stated rate. That threshold is known from few scores, so its error is added: to each side, in squares, as in
Newcombe's intervals, the distance of Clopper and Pearson's end and the share of IN scores between the estimated threshold and the end of
its own 95% interval (a noncentral t's for normal scores, order statistics' for ranks). It covers .95 to 1 for unit Gaussians 0 to 5 apart
at rates of .1, .01 and .001 and 4 to 128 targets on each side (.67 to .95 with Clopper and Pearson's alone).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import nctdtrit, ndtri, stdtrit

from memberscope.checks import Array, BoolArray, FloatArray
from memberscope.errors import UserError
from memberscope.exposure.base import Ints, Texts, check_fleet, record_chunks, records_of, twins
from memberscope.metrics import rate_name
from memberscope.metrics.intervals import clopper_pearson_ends
from memberscope.metrics.low_fpr import LOW_BUDGET, allowed_false_positives, fp_budget

_OUT_OF_REACH = 1e200  # deviations; not inf, which times a deviation of 0 is no number
LEAST_OUT = 3  # fewest scores of targets without the record from which its own threshold is made: one of them is left out


@dataclass(frozen=True, kw_only=True, eq=False)
class Detection:
    """How often one attack found each of n records.

    Attributes:
        attack: the attack's name.
        fpr: the false positive rate.
        at: ``pooled`` or ``own``, whose false positive rate it is.
        threshold: ``pooled``; for ``own``, ``rank`` or ``normal``.
        found: (n,) targets that were trained on the record, and under which it was found.
        targets_in: (n,) targets that were trained on it.
        accused: (n,) targets that were not trained on it, and under which it passed anyway.
        targets_out: (n,) targets that were not trained on it.
        low: (n,) lower ends of the 95% intervals of the rate; NaN where there is none.
        high: (n,) upper ends.
        reason: (n,) text why there is no rate; "" where there is.
    """

    attack: str
    fpr: float
    at: str
    threshold: str
    found: Ints
    targets_in: Ints
    accused: Ints
    targets_out: Ints
    low: FloatArray
    high: FloatArray
    reason: Texts

    @property
    def name(self) -> str:
        """As columns and metrics call it: ``detection_pooled_fpr_0_01/lira_online``."""
        return f"detection_{self.at}_fpr_{rate_name(self.fpr)}/{self.attack}"

    @property
    def value(self) -> FloatArray:
        """(n,) share of the targets with the record under which it was found; NaN where `reason` says why there is none."""
        return np.where(self.reason == "", self.found / np.maximum(self.targets_in, 1), np.nan)

    @property
    def false_rate(self) -> float:
        """Over all records together, the share of targets without the record under which it passed; NaN where no record has a threshold."""
        usable = self.reason == ""
        trials = int(self.targets_out[usable].sum())
        return float(self.accused[usable].sum()) / trials if trials else math.nan

    @property
    def accused_twice(self) -> int:
        """How many records passed under at least two targets without them."""
        return int((self.accused[self.reason == ""] > 1).sum())

    @property
    def accused_twice_by_chance(self) -> float:
        """The expectation of `accused_twice` if all records had the same rate, `false_rate`: fewer than there are if pooled thresholds
        accuse some far more often than others. It says nothing about own thresholds, which a record's own outliers raise. NaN where no
        record has a threshold.
        """
        rate, trials = self.false_rate, self.targets_out[self.reason == ""]
        none, one = (1 - rate) ** trials, trials * rate * (1 - rate) ** np.maximum(trials - 1, 0)
        return float((1 - none - one).sum()) if len(trials) else math.nan


def detect_pooled(scores: FloatArray, member: BoolArray, *, attack: str, fpr: float, confidence: float = 0.95) -> Detection:
    """How often records are found at thresholds with the stated rate over all non-members of each target.

    Args:
        scores: (targets, n) the attack's scores; higher = more likely a member.
        member: (targets, n) bool, whether the target was trained on the record.
        attack: its name.
        fpr: the false positive rate, between 0 and 1.
        confidence: of the intervals.

    Raises:
        UserError: arrays that do not fit each other, scores that are not finite, a rate out of range.
    """
    check_fleet(member, scores=scores)
    _check_rate(fpr)
    passed = passes(scores, member, fpr=fpr)
    found, trials = (passed & member).sum(axis=0), member.sum(axis=0)
    low, high = clopper_pearson_ends(found, np.maximum(trials, 1), (1 - confidence) / 2)
    reason = np.where(trials > 0, "", "no target was trained on the record").astype(object)
    return Detection(
        attack=attack, fpr=fpr, at="pooled", threshold="pooled", found=found, targets_in=trials, accused=(passed & ~member).sum(axis=0),
        targets_out=len(member) - trials, low=np.where(trials > 0, low, np.nan), high=np.where(trials > 0, high, np.nan), reason=reason,
    )  # fmt: skip


def passes(scores: FloatArray, member: BoolArray, *, fpr: float) -> BoolArray:
    """(targets, n) whether each score is above that of its target's (k + 1)-th highest non-member, k = floor(fpr * non-members).

    Under a target without non-members nothing passes.
    """
    found = np.zeros(scores.shape, dtype=np.bool_)
    for row, of_target, inside in zip(found, scores, member, strict=True):
        outside = of_target[~inside]
        if len(outside):
            allowed = min(allowed_false_positives(len(outside), fpr), len(outside) - 1)
            row[:] = of_target > np.partition(outside, len(outside) - 1 - allowed)[len(outside) - 1 - allowed]
    return found


def detect_own(
    scores: Array,
    member: BoolArray,
    *,
    attack: str,
    fpr: float,
    pairs: NDArray[np.intp] | None = None,
    threshold: str = "auto",
    confidence: float = 0.95,
) -> Detection:
    """How often records are found at thresholds with the stated rate for each record, from the targets that were not trained on it.

    Args:
        scores, member, attack, fpr, confidence: as in `detect_pooled`.
        pairs: (p, 2) complementary pairs among the targets; None to look for them.
        threshold: ``rank`` or ``normal``; ``auto``: ``rank`` where some record has OUT scores enough that ten may pass.

    Raises:
        UserError: as in `detect_pooled`, or an unknown kind of threshold.
    """
    check_fleet(member, scores=scores)
    _check_rate(fpr)
    if threshold not in ("auto", "rank", "normal"):
        raise UserError(f"threshold: {threshold!r}; allowed: auto, rank, normal")
    other = twins(member) if pairs is None else np.full(len(member), -1, dtype=np.intp)
    for first, second in () if pairs is None else pairs:
        other[first], other[second] = second, first
    n_in = member.sum(axis=0, dtype=np.int64)
    n_out = len(member) - n_in
    most = int(n_out.max(initial=0))
    ranked = threshold == "rank" or (threshold == "auto" and fp_budget(most, fpr) >= LOW_BUDGET)
    usable = (n_in > 0) & (n_out >= LEAST_OUT)
    if ranked:  # all by the same rule; records with too few get a reason
        usable &= np.array([count > 0 and _places(count - 1, fpr) >= 1 for count in range(most + 1)])[n_out]
    counts = np.zeros(
        (5, member.shape[1]), dtype=np.int64
    )  # found, accused; IN scores above the estimate and the ends of its interval
    for rows in record_chunks(*member.shape):
        phi, inside = records_of(scores, rows), member[:, rows]
        counts[:, rows] = (
            _by_rank(phi, inside, other, fpr, confidence) if ranked else _by_normal(phi, inside, other, fpr, confidence)
        )
    found, accused, middle, fewest, largest = counts
    trials = np.maximum(n_in, 1)
    cp_low, cp_high = clopper_pearson_ends(middle, trials, (1 - confidence) / 2)
    share = middle / trials
    low = np.maximum(share - np.hypot(share - cp_low, share - fewest / trials), 0.0)
    high = np.minimum(share + np.hypot(cp_high - share, largest / trials - share), 1.0)
    low, high = np.minimum(low, found / trials), np.maximum(high, found / trials)
    reason = np.full(member.shape[1], "", dtype=object)
    needed = math.ceil(1 / fpr - 1e-9) if ranked else LEAST_OUT
    for count_in, count_out in {*zip(n_in[~usable].tolist(), n_out[~usable].tolist(), strict=True)}:
        text = f"a threshold of its own needs 1 IN and {needed} OUT models (the record has {count_in} and {count_out})"
        reason[~usable & (n_in == count_in) & (n_out == count_out)] = text
    return Detection(
        attack=attack, fpr=fpr, at="own", threshold="rank" if ranked else "normal", found=found, targets_in=n_in, accused=accused,
        targets_out=n_out, low=np.where(usable, low, np.nan), high=np.where(usable, high, np.nan), reason=reason,
    )  # fmt: skip


def _check_rate(fpr: float) -> None:
    if not 0.0 < fpr < 1.0:
        raise UserError(f"fpr: {fpr:g}; allowed: above 0 and below 1")


def _places(scores: int, fpr: float) -> int:
    """How many of the largest of `scores` + 1 exchangeable scores are found at a rate of at most `fpr`."""
    return math.floor(fpr * (scores + 1) + 1e-9)


def _left_out(phi: FloatArray, inside: BoolArray, twin: int, target: int) -> tuple[FloatArray, BoolArray]:
    """The OUT score that takes no part in a target's threshold, and for which records there is one: the target's own, or its twin's."""
    own = ~inside[target]
    if twin < 0:
        return phi[target], own
    return np.where(own, phi[target], phi[twin]), own | ~inside[twin]


def _by_normal(phi: FloatArray, inside: BoolArray, other: NDArray[np.intp], fpr: float, confidence: float) -> Ints:
    """The counts of `detect_own`, (5, r), with limits that take the OUT scores as normal."""
    outside = ~inside
    count = outside.sum(axis=0)
    level = np.where(outside, phi, 0.0).sum(axis=0) / np.maximum(count, 1)
    centred = phi - level
    kept = np.where(outside, centred, 0.0)
    total, squares = kept.sum(axis=0), np.square(kept).sum(axis=0)
    factors = _factors(len(phi), fpr, confidence)
    found = np.zeros((5, phi.shape[1]), dtype=np.int64)
    for target, twin in enumerate(other.tolist()):
        out, there = _left_out(centred, inside, twin, target)
        out = np.where(there, out, 0.0)
        m = np.maximum(count - there, 1)
        mean = (total - out) / m
        sd = np.sqrt(np.maximum(squares - out * out - mean * mean * m, 0.0) / np.maximum(m - 1, 1))
        height = centred[target] - mean
        here = inside[target]
        passed = height > factors[0, m] * sd
        found[0] += passed & here
        found[1] += passed & ~here
        for row in (1, 2, 3):
            found[1 + row] += (height > factors[row, m] * sd) & here
    return found


def _factors(most: int, fpr: float, confidence: float) -> FloatArray:
    """(4, most + 1) by number of scores m: deviations from the mean to the prediction limit, the quantile itself, the upper and the lower
    end of its confidence interval; out of reach below m = 2.
    """
    z, found = float(ndtri(1 - fpr)), np.full((4, most + 1), _OUT_OF_REACH)
    m = np.arange(2, most + 1, dtype=np.float64)
    found[0, 2:] = stdtrit(m - 1, 1 - fpr) * np.sqrt(1 + 1 / m)
    found[1, 2:] = z
    for row, share in ((2, 0.5 + confidence / 2), (3, 0.5 - confidence / 2)):
        found[row, 2:] = nctdtrit(m - 1, z * np.sqrt(m), share) / np.sqrt(m)
    return found


def _by_rank(phi: FloatArray, inside: BoolArray, other: NDArray[np.intp], fpr: float, confidence: float) -> Ints:
    """The counts of `detect_own`, (5, r), with limits that are order statistics of the OUT scores."""
    from scipy.stats import binom

    count = (~inside).sum(axis=0)
    ordered = -np.sort(np.where(inside, np.inf, -phi), axis=0)  # OUT scores, the largest first; then -inf
    ordered = np.vstack([ordered, np.full((1, phi.shape[1]), -np.inf)])
    column = np.arange(phi.shape[1])
    miss = (1 - confidence) / 2
    sizes = np.arange(len(phi) + 1)
    places = np.array([_places(int(m), fpr) for m in sizes])
    # the number of OUT scores above the true threshold is binomial
    fewest, largest = binom.ppf(miss, sizes, fpr).astype(np.int64), binom.ppf(1 - miss, sizes, fpr).astype(np.int64)
    nearest = np.maximum(np.round(sizes * fpr).astype(np.int64), 1)
    found = np.zeros((5, phi.shape[1]), dtype=np.int64)
    for target, twin in enumerate(other.tolist()):
        out, there = _left_out(phi, inside, twin, target)
        m = count - there

        def limit(place: Ints, out: FloatArray = out, there: BoolArray = there) -> FloatArray:
            """The place-th largest of the scores that remain (from 1); inf for place 0."""
            at = np.clip(place - 1, 0, len(ordered) - 2)
            value = ordered[at, column]
            value = np.where(there & (out >= value), ordered[at + 1, column], value)
            return np.where(place < 1, np.inf, value)

        own, here = phi[target], inside[target]
        passed = own > limit(places[m])
        found[0] += passed & here
        found[1] += passed & ~here
        for row, place in enumerate((nearest[m], fewest[m], largest[m] + 1), start=2):
            found[row] += (own > limit(place)) & here
    return found
