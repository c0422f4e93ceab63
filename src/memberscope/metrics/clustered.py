"""The AUC of records that come in groups, such as several records of one person, with an interval that counts groups."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit, logit, stdtrit

from memberscope.metrics.area import auc_value, placements
from memberscope.metrics.curve import Ranking, rank
from memberscope.metrics.estimate import Estimate, Floats, check_fraction, spanning
from memberscope.metrics.intervals import newcombe_auc, two_sided_z


def clustered_auc(scores: ArrayLike, member: ArrayLike, groups: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """The area under the ROC curve of records, as `memberscope.metrics.auc`, where the records of one group may be correlated.

    With V(i) the placement of record i (the share of the other side that it beats, ties at one half), D(g) the sum of V(i) - AUC over the
    members of group g and D'(g) that over its non-members, M and N the numbers of records and m and n the numbers of groups on each side,
    and G that of all groups, the variance is

        m / (m - 1) sum D(g)^2 / M^2 + n / (n - 1) sum D'(g)^2 / N^2 + 2 G / (G - 1) sum D(g) D'(g) / (M N)

    (Obuchowski 1997, "Nonparametric analysis of clustered ROC curve data", Eq. 4 to 6). The last term is 0 where no group is on both sides.
    As for `auc`, the interval is on the logit scale with Student's t; any number of copies of every record, each in the group of its
    original, leaves value and interval as they are.

    Args:
        scores: (n,) higher = more likely a member.
        member: (n,) bool.
        groups: (n,) ints or text.
        confidence: of the interval.

    Returns:
        The area and its interval; where the data show no variance, Newcombe's interval for as many records as there are groups.

    Raises:
        ValueError: arrays of unequal lengths, scores that are not finite, or a side without records.
    """
    check_fraction("confidence", confidence)
    ranking = rank(scores, member)
    values, truth, names = np.asarray(scores, dtype=np.float64), np.asarray(member, dtype=bool), np.asarray(groups)
    if names.shape != values.shape:
        raise ValueError(f"groups {names.shape} and scores {values.shape} must have the same length")
    value = auc_value(ranking)
    code = np.unique(names, return_inverse=True)[1]
    total = int(code.max()) + 1
    deviations = _placement_of(ranking, values, truth) - value
    inside = np.bincount(code[truth], weights=deviations[truth], minlength=total)
    outside = np.bincount(code[~truth], weights=deviations[~truth], minlength=total)
    n_inside, n_outside = len(np.unique(code[truth])), len(np.unique(code[~truth]))
    part_member = _scaled(n_inside) * float(inside @ inside) / ranking.n_member**2
    part_nonmember = _scaled(n_outside) * float(outside @ outside) / ranking.n_nonmember**2
    shared = 2 * _scaled(total) * float(inside @ outside) / (ranking.n_member * ranking.n_nonmember)
    variance = part_member + part_nonmember + shared
    if not (0.0 < value < 1.0 and 0.0 < variance < math.inf):
        low, high = newcombe_auc(value, n_inside, n_outside, two_sided_z(confidence))
        return spanning(value, low, high)
    parts = part_member**2 / (n_inside - 1) + part_nonmember**2 / (n_outside - 1)
    freedom = (part_member + part_nonmember) ** 2 / parts
    half = float(stdtrit(freedom, 0.5 + confidence / 2)) * math.sqrt(variance) / (value * (1 - value))
    return spanning(value, expit(logit(value) - half), expit(logit(value) + half))


def _placement_of(ranking: Ranking, scores: Floats, member: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Floats:
    """(n,) each record's placement: the share of the other side that it beats if it is a member, by which it is beaten if it is not."""
    below, above = placements(ranking)
    block = np.searchsorted(-ranking.thresholds, -scores, side="left")
    found: Floats = np.where(member, below[block], above[block])
    return found


def _scaled(groups: int) -> float:
    return groups / (groups - 1) if groups > 1 else math.inf
