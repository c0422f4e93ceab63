"""How the threshold of a lower bound on epsilon is chosen, and the error counts at the thresholds that come into question."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from memberscope.metrics.estimate import Bools, Floats, Ints, check_fraction

# "members": records with a score of at least a threshold are guessed to be members, and nothing is guessed of the rest. "both":
# in addition, as many of the lowest scores are guessed to be non-members.
Sides = Literal["members", "both"]


@dataclass(frozen=True, kw_only=True)
class FixedThreshold:
    """A threshold that was fixed before any score of the audited records was seen.

    Attributes:
        high: records with at least this score are guessed to be members.
        low: records with at most this score are guessed to be non-members, where both sides are guessed; below `high`.
    """

    high: float
    low: float | None = None

    def __post_init__(self) -> None:
        """Raise ValueError for thresholds that are not numbers or overlap."""
        if math.isnan(self.high):
            raise ValueError(f"high={self.high}; it must be a number")
        if self.low is not None and not self.low < self.high:
            raise ValueError(f"low={self.low}; it must be below high={self.high}")


@dataclass(frozen=True, kw_only=True)
class SplitThreshold:
    """The best threshold of a random part of the records; the bound is that of the rest.

    Attributes:
        share: the share of the records that choose the threshold.
        n_splits: the number of random splits. With more than one, the bound is the median of the bounds of all splits, each at half of
            the error: by Markov's inequality, half of the p-values are at most alpha / 2 with probability at most alpha
            (Meinshausen, Meier & Buehlmann 2009, Theorem 3.1, for the median).
    """

    share: float = 0.5
    n_splits: int = 1

    def __post_init__(self) -> None:
        """Raise ValueError for a share or a number of splits that is not possible."""
        check_fraction("share", self.share)
        if self.n_splits < 1:
            raise ValueError(f"n_splits={self.n_splits}; it must be at least 1")


@dataclass(frozen=True, kw_only=True)
class AllThresholds:
    """The best of all thresholds, each at its part of the error (Bonferroni).

    The error is divided by the number of records n, as there are that many numbers of guesses (by n // 2 for pairs of thresholds), and
    the best is sought at the corners of the ROC curve's convex hull. This covers error rates too: between two neighbouring scores
    of a side, its count is constant and its rate largest at the end, where the Clopper-Pearson end of that count is the quantile of
    the order statistic. At a delta above 0, the one-run bound of Steinke et al. often shows nothing with so many
    thresholds, as each has to pay for delta out of its small part of the error; `GuessShares` are few.

    Attributes:
        corners: divide the error by only the number of these corners, as published audits do, to reproduce their figures. This is not
            a valid correction, as the corners are known only once memberships are: with 100, 500 and 2,000 records without signal,
            the one-run bounds at 95% and delta 1e-9 are above 0 in about 4%, 6% and 7% of data sets.
    """

    corners: bool = False


@dataclass(frozen=True, kw_only=True)
class GuessShares:
    """The best of several numbers of guesses that are fixed beforehand, each at its part of the error (Bonferroni); for one-run bounds.

    Attributes:
        shares: the shares of the records that are guessed: the highest scores to be members or, with both sides, half of them from either
            end. Records tied with the last one are guessed too.
    """

    shares: tuple[float, ...] = (1 / 128, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)

    def __post_init__(self) -> None:
        """Raise ValueError where there is no share, or one that is not possible."""
        if not self.shares:
            raise ValueError("shares=(); it must have at least one share of the records")
        for share in self.shares:
            check_fraction("shares", share, closed=True)


ThresholdChoice = FixedThreshold | SplitThreshold | AllThresholds | GuessShares


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """The guesses at each of k thresholds, or pairs of thresholds.

    `high` and `low` (k,) are the thresholds (`low` is -inf where nothing is guessed to be a non-member); `right` and `wrong` (k,) count the
    guesses; `true_pos` and `false_pos` (k,) the members and non-members that are guessed to be members, of `n_member` and `n_nonmember`.
    """

    high: Floats
    low: Floats
    right: Ints
    wrong: Ints
    true_pos: Ints
    false_pos: Ints
    n_member: int
    n_nonmember: int

    def only(self, chosen: Ints) -> Cuts:
        """The same at the `chosen` positions alone."""
        return Cuts(
            high=self.high[chosen],
            low=self.low[chosen],
            right=self.right[chosen],
            wrong=self.wrong[chosen],
            true_pos=self.true_pos[chosen],
            false_pos=self.false_pos[chosen],
            n_member=self.n_member,
            n_nonmember=self.n_nonmember,
        )

    def corners(self) -> Cuts:
        """The cuts at the corners of the convex hull of right over wrong guesses."""
        return self.only(_hull(self.wrong, self.right))


def cuts_at(values: Floats, truth: Bools, high: Floats, low: Floats) -> Cuts:
    """The Cuts of scores `values` (n,) with membership `truth` (n,) at thresholds `high` and `low` (k,)."""
    members, others = np.sort(values[truth]), np.sort(values[~truth])
    true_pos = members.size - np.searchsorted(members, high, side="left")
    false_pos = others.size - np.searchsorted(others, high, side="left")
    return Cuts(
        high=high,
        low=low,
        right=true_pos + np.searchsorted(others, low, side="right"),
        wrong=false_pos + np.searchsorted(members, low, side="right"),
        true_pos=true_pos,
        false_pos=false_pos,
        n_member=members.size,
        n_nonmember=others.size,
    )


def all_cuts(values: Floats, truth: Bools, sides: Sides) -> Cuts:
    """The Cuts at +inf and every distinct score, descending, or at every pair of scores that are equally many records from either end."""
    if sides == "members":
        high = np.r_[np.inf, np.unique(values)[::-1]]
        return cuts_at(values, truth, high, np.full(high.size, -np.inf))
    ascending = np.sort(values)
    half = values.size // 2
    pairs = np.unique(np.c_[-ascending[::-1][:half], ascending[:half]], axis=0)
    pairs = pairs[-pairs[:, 0] > pairs[:, 1]]
    return cuts_at(values, truth, np.r_[np.inf, -pairs[:, 0]], np.r_[-np.inf, pairs[:, 1]])


def cuts_of_shares(values: Floats, truth: Bools, shares: tuple[float, ...], sides: Sides) -> Cuts:
    """The Cuts that guess each of k `shares` of the records, at least one record on a side."""
    ascending = np.sort(values)
    counts = np.asarray(shares) * values.size
    if sides == "members":
        each = np.maximum(np.rint(counts), 1).astype(np.int64)
        return cuts_at(values, truth, ascending[values.size - each], np.full(each.size, -np.inf))
    each = np.maximum(np.floor(counts / 2), 1).astype(np.int64)
    high, low = ascending[values.size - each], ascending[each - 1]
    overlap = low >= high  # only with ties: then none is guessed to be a non-member
    return cuts_at(values, truth, high, np.where(overlap, -np.inf, low))


def split(values: Floats, truth: Bools, share: float, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Positions of a random `share` of the records and of the rest.

    The draw does not depend on memberships, so that those of the rest are still coin flips, given the others. The same records in
    another order are split alike.
    """
    order = np.lexsort((truth, values))
    shuffled = order[rng.permutation(values.size)]
    first = round(share * values.size)
    return shuffled[:first], shuffled[first:]


def _hull(x: Ints, y: Ints) -> Ints:
    """Positions of the corners of the least concave curve above the points (x, y), (k,) each, which do not decrease."""
    corners: list[int] = []
    xs, ys = x.tolist(), y.tolist()
    for at in range(len(xs)):
        while len(corners) > 1:
            before, last = corners[-2], corners[-1]
            if (ys[last] - ys[before]) * (xs[at] - xs[last]) > (ys[at] - ys[last]) * (xs[last] - xs[before]):
                break
            corners.pop()
        corners.append(at)
    return np.array(corners, dtype=np.int64)
