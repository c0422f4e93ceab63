"""The privacy score: how far apart a record's IN and OUT scaled logits are (Carlini et al., NeurIPS 2022, "The Privacy Onion Effect").

Their section 3 defines it as ``|mu_in - mu_out| / (sigma_in + sigma_out)``, of the scaled logits of the IN and of the OUT models. Standard
deviations are the unbiased ones here (divided by one less than the number of models). For unit Gaussians d apart the score tends to d /
2.

**Interval.** A jackknife over complementary pairs of models, with Student's quantile for one less than their number; over models of both
sides where they are independent, with that of the smaller side. It is made for the signed ratio and then folded. Gaussian values of
distance 0 to 8, with equal and unequal deviations and correlations of -.5 to .5 within pairs: it covers .94 to .98 from 4 pairs on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from memberscope.checks import Array, BoolArray, FloatArray
from memberscope.exposure.base import Measure, Texts, check_fleet, complementary_pairs, lacking, record_chunks, records_of

NAME = "privacy_score"
LEAST = 3  # fewest models on each side: with one left out, two must remain
_NO_SPREAD = f"{NAME}: the scaled logits of the record do not vary between models"


def privacy_score(
    scaled_logits: Array,
    member: BoolArray,
    *,
    pairs: NDArray[np.intp] | None = None,
    confidence: float = 0.95,
) -> Measure:
    """``|mu_in - mu_out| / (sigma_in + sigma_out)`` of each record.

    Args:
        scaled_logits: (models, n) log(p / (1 - p)) of the true label's probability p, in nats.
        member: (models, n) bool, whether the model was trained on the record.
        pairs: as in `memberscope.exposure.memorization.memorization`.
        confidence: of the interval.

    Returns:
        Values of 0 and more.

    Raises:
        UserError: arrays that do not fit each other, or scaled logits that are not finite.
    """
    check_fleet(member, scaled_logits=scaled_logits)
    pairs = complementary_pairs(member) if pairs is None else pairs
    n_in = member.sum(axis=0, dtype=np.int64)
    n_out = len(member) - n_in
    reason = lacking(n_in, n_out, LEAST, NAME)
    signed, error = (np.full(member.shape[1], np.nan) for _ in range(2))
    for rows in record_chunks(*member.shape):
        phi, inside = records_of(scaled_logits, rows), member[:, rows]
        with np.errstate(divide="ignore", invalid="ignore"):
            if len(pairs):
                signed[rows], error[rows] = _of_pairs(phi, inside, pairs)
            else:
                signed[rows], error[rows] = _of_models(phi, inside)
    degrees = (n_in if len(pairs) else np.minimum(n_in, n_out)) - 1
    half = error * stdtrit(np.maximum(degrees, 1).astype(np.float64), 0.5 + confidence / 2)
    return _folded(signed, half, reason)


def _folded(signed: FloatArray, half: FloatArray, reason: Texts) -> Measure:
    """The measure of absolute values, from signed ones and half the widths of their intervals."""
    low, high = signed - half, signed + half
    reason = reason.copy()
    reason[(reason == "") & ~(np.isfinite(signed) & np.isfinite(half))] = _NO_SPREAD
    known = reason == ""
    nearest = np.where((low <= 0) & (high >= 0), 0.0, np.minimum(np.abs(low), np.abs(high)))
    ends = nearest, np.maximum(np.abs(low), np.abs(high))
    value, low, high = (np.where(known, array, np.nan) for array in (np.abs(signed), *ends))
    return Measure(name=NAME, value=value, low=low, high=high, reason=reason)


class _Moments:
    """Sums over a side's models of each record's values, less a level near their mean; one value can be left out again."""

    def __init__(self, values: FloatArray, used: BoolArray) -> None:
        self.count = used.sum(axis=0).astype(np.float64)
        self.level = np.where(used, values, 0.0).sum(axis=0) / np.maximum(self.count, 1.0)
        centred = np.where(used, values - self.level, 0.0)
        self.total, self.squares = centred.sum(axis=0), np.square(centred).sum(axis=0)

    def mean_sd(self, without: FloatArray | None = None, where: BoolArray | bool = True) -> tuple[FloatArray, FloatArray]:
        """Mean and unbiased deviation; with `without` (n,) left out of the records of `where`."""
        count, total, squares = self.count, self.total, self.squares
        if without is not None:
            left = np.where(where, without - self.level, 0.0)
            count, total, squares = count - where, total - left, squares - left * left
        mean = total / count
        return mean + self.level, np.sqrt(np.maximum(squares - total * mean, 0.0) / (count - 1))


def _ratio(one: tuple[FloatArray, FloatArray], other: tuple[FloatArray, FloatArray]) -> FloatArray:
    ratio: FloatArray = (one[0] - other[0]) / (one[1] + other[1])
    return ratio


def _of_pairs(phi: FloatArray, member: BoolArray, pairs: NDArray[np.intp]) -> tuple[FloatArray, FloatArray]:
    """The signed ratio of each record and its jackknife error over pairs."""
    ins, outs = _Moments(phi, member), _Moments(phi, ~member)
    full = _ratio(ins.mean_sd(), outs.mean_sd())
    total, squares = np.zeros_like(full), np.zeros_like(full)
    for first, second in pairs:
        inside = np.where(member[first], phi[first], phi[second])
        outside = np.where(member[first], phi[second], phi[first])
        change = _ratio(ins.mean_sd(inside), outs.mean_sd(outside)) - full
        total += change
        squares += change * change
    n = len(pairs)
    return full, np.sqrt((n - 1) / n * (squares - total * total / n))


def _of_models(phi: FloatArray, member: BoolArray) -> tuple[FloatArray, FloatArray]:
    """The same for independent models: the errors of both sides, each over its own models, together."""
    ins, outs = _Moments(phi, member), _Moments(phi, ~member)
    all_in, all_out = ins.mean_sd(), outs.mean_sd()
    full = _ratio(all_in, all_out)
    variance = np.zeros_like(full)
    for side, used in ((ins, member), (outs, ~member)):
        total, squares = np.zeros_like(full), np.zeros_like(full)
        for values, here in zip(phi, used, strict=True):
            left = side.mean_sd(values, here)
            change = (_ratio(left, all_out) if side is ins else _ratio(all_in, left)) - full
            change = np.where(here, change, 0.0)
            total += change
            squares += change * change
        variance += (side.count - 1) / side.count * (squares - total * total / side.count)
    return full, np.sqrt(np.maximum(variance, 0.0))
