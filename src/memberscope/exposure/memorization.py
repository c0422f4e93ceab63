"""Memorization: how much more often a record is classified correctly by models that were trained on it (Feldman & Zhang, NeurIPS 2020).

Their Eq. 1 is mem(A, S, i) = P[h(x_i) = y_i] for h ~ A(S), less the same for h ~ A(S without i). They estimate it over models that are
each trained on a random subset of S (their section 2): the share of correct IN models less the share of correct OUT models, and so do we.

**Interval.** If the models come in complementary pairs, each pair gives one IN and one OUT answer for every record, and pairs are
independent of each other. The two answers of a pair are not: a neighbour that helps the IN model is missing from the OUT model. So the
interval is that for the difference of two *paired* proportions: Newcombe 1998 (Statistics in Medicine 17:2635), method 10, Wilson's
intervals combined with the correlation within pairs, with his continuity correction of that correlation. With correlations of -.5 to .5
it covers .93 to 1 from 8 pairs on (.88 at 4), where the interval for independent proportions covers .87 to .91 at a correlation of -.5.
Otherwise models are taken as independent: the same without the correlation (Newcombe's method for independent proportions).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from memberscope.checks import BoolArray, FloatArray
from memberscope.exposure.base import Ints, Measure, check_fleet, complementary_pairs, lacking
from memberscope.metrics.intervals import two_sided_z, wilson_end

NAME = "memorization"
LEAST = 1  # fewest models on each side


def memorization(
    correct: BoolArray, member: BoolArray, *, pairs: NDArray[np.intp] | None = None, confidence: float = 0.95
) -> Measure:
    """The share of correct IN models less that of correct OUT models, for each record.

    Args:
        correct: (models, n) bool, whether the model classifies the record correctly.
        member: (models, n) bool, whether it was trained on the record.
        pairs: (p, 2) the complementary pairs, if all models are in one; empty for independent models; None to look for them.
        confidence: of the interval.

    Returns:
        Values in [-1, 1].

    Raises:
        UserError: arrays that do not fit each other.
    """
    check_fleet(member, correct=correct)
    pairs = complementary_pairs(member) if pairs is None else pairs
    n_in = member.sum(axis=0, dtype=np.int64)
    n_out = len(member) - n_in
    x_in = np.logical_and(correct, member).sum(axis=0, dtype=np.int64)
    x_out = correct.sum(axis=0, dtype=np.int64) - x_in
    reason = lacking(n_in, n_out, LEAST, NAME)
    correlation = _correlation(correct, pairs, x_in, x_out) if len(pairs) else np.zeros(len(n_in))
    low, high = newcombe(x_in, n_in, x_out, n_out, correlation, two_sided_z(confidence))
    value = x_in / np.maximum(n_in, 1) - x_out / np.maximum(n_out, 1)
    found = reason == ""
    value, low, high = (np.where(found, array, np.nan) for array in (value, low, high))
    return Measure(name=NAME, value=value, low=low, high=high, reason=reason)


def newcombe(x1: Ints, n1: Ints, x0: Ints, n0: Ints, correlation: FloatArray, z: float) -> tuple[FloatArray, FloatArray]:
    """Newcombe's intervals for x1/n1 - x0/n0, array by array: of 1998, method 10, for independent (correlation 0) or paired counts."""
    n1, n0 = np.maximum(n1, 1), np.maximum(n0, 1)
    p1, p0 = x1 / n1, x0 / n0
    down1, up1 = p1 - wilson_end(x1, n1, -z), wilson_end(x1, n1, z) - p1
    down0, up0 = p0 - wilson_end(x0, n0, -z), wilson_end(x0, n0, z) - p0

    def combined(one: FloatArray, other: FloatArray) -> FloatArray:
        squared: FloatArray = one * one - 2 * correlation * one * other + other * other
        root: FloatArray = np.sqrt(np.maximum(squared, 0.0))
        return root

    difference = p1 - p0
    return np.maximum(difference - combined(down1, up0), -1.0), np.minimum(difference + combined(up1, down0), 1.0)


def _correlation(correct: BoolArray, pairs: NDArray[np.intp], x_in: Ints, x_out: Ints) -> FloatArray:
    """(n,) correlation of a pair's two answers, pulled to 0 by Newcombe's continuity correction; 0 where an answer never varies."""
    n = len(pairs)
    both = np.zeros(correct.shape[1], dtype=np.int64)
    for first, second in pairs:
        both += correct[first] & correct[second]
    excess = (both * (n - x_in - x_out + both) - (x_in - both) * (x_out - both)).astype(np.float64)
    excess = np.where(excess > 0, np.maximum(excess - n / 2, 0.0), excess)
    scale = np.sqrt(x_in * (n - x_in).astype(np.float64) * x_out * (n - x_out))
    return np.divide(excess, scale, out=np.zeros_like(excess), where=scale > 0)
