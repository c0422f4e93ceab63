"""Ranks the records once, and derives the ROC curve from the ranking.

Polarity: a higher score means more likely a member. A record is called a member if its score is at least the threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from memberscope.metrics.estimate import Bools, Floats, Ints, check_scores


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Scores in descending order, with ties as one block. They are sorted once, and every metric of an attack is computed from them.

    `thresholds` (b,) are the distinct scores, descending; `true_pos` and `false_pos` (b + 1,) count the members and non-members
    at or above each, beginning with 0 for a threshold above all scores. Nothing depends on the order of the records in the input.
    """

    thresholds: Floats
    true_pos: Ints
    false_pos: Ints

    @property
    def n_member(self) -> int:
        """The number of records that were in the training set."""
        return int(self.true_pos[-1])

    @property
    def n_nonmember(self) -> int:
        """The number of records that were not in the training set."""
        return int(self.false_pos[-1])

    @cached_property
    def members_in(self) -> Ints:
        """The number of members in each block, (b,)."""
        return np.diff(self.true_pos)

    @cached_property
    def nonmembers_in(self) -> Ints:
        """The number of non-members in each block, (b,)."""
        return np.diff(self.false_pos)

    @cached_property
    def corners(self) -> tuple[Floats, Floats]:
        """FPR and TPR (m,) without the points that lie inside straight runs.

        The same points, by the same rule and with the same rounding, as `sklearn.metrics.roc_curve`, from which tensorflow_privacy computes
        its metrics; ours therefore agree with its to the last digit.
        """
        tp, fp = self.true_pos[1:].astype(np.float64), self.false_pos[1:].astype(np.float64)
        if fp.size > 2:
            keep = np.ones(fp.size, dtype=np.bool_)
            keep[1:-1] = (np.diff(fp, 2) != 0) | (np.diff(tp, 2) != 0)
            tp, fp = tp[keep], fp[keep]
        return np.r_[0.0, fp] / fp[-1], np.r_[0.0, tp] / tp[-1]

    def members_above_nonmember(self, rank: Ints) -> Ints:
        """The number of members with a score strictly above that of the non-member at each rank (any shape).

        Rank 1 is the highest non-member; 0 stands for +inf (no member is above it) and n_nonmember + 1 for -inf (all are).
        """
        block = np.searchsorted(self.false_pos, rank, side="left")  # false_pos[block - 1] < rank <= false_pos[block]
        above = self.true_pos[np.clip(block - 1, 0, None)]
        return np.where(rank <= 0, 0, np.where(rank > self.n_nonmember, self.n_member, above))

    def at_or_above(self, threshold: float) -> tuple[int, int]:
        """The numbers of members and of non-members with a score of at least `threshold`."""
        block = int(np.searchsorted(-self.thresholds, -threshold, side="right"))
        return int(self.true_pos[block]), int(self.false_pos[block])

    def halves(self, rng: np.random.Generator) -> tuple[Ints, Ints] | None:
        """`true_pos` and `false_pos` of a random half of the members and of the non-members; the other half is the rest.

        The half is drawn over ranks, not over positions in the input, so that the same records in another order give the same metrics. None
        where a side has fewer than two records.
        """
        if min(self.n_member, self.n_nonmember) < 2:
            return None
        return _half(self.true_pos, rng), _half(self.false_pos, rng)


def _half(cumulative: Ints, rng: np.random.Generator) -> Ints:
    n = int(cumulative[-1])
    chosen = np.zeros(n + 1, dtype=np.int64)
    chosen[1:][rng.permutation(n)[: n // 2]] = 1
    return np.cumsum(chosen)[cumulative]


def rank(scores: ArrayLike, member: ArrayLike) -> Ranking:
    """The Ranking of `scores` (n,) with ground truth `member` (n,); O(n log n). ValueError as in `check_scores`."""
    values, truth = check_scores(scores, member)
    order = np.argsort(values)[::-1]
    return _from_sorted(values[order], truth[order])


def _from_sorted(values: Floats, truth: Bools) -> Ranking:
    last = np.flatnonzero(np.r_[values[1:] != values[:-1], True])  # the last record of each block
    true_pos = np.r_[0, np.cumsum(truth)[last]]
    return Ranking(thresholds=values[last], true_pos=true_pos, false_pos=np.r_[0, last + 1] - true_pos)


@dataclass(frozen=True, kw_only=True)
class Roc:
    """A receiver operating characteristic, ties as blocks, from (0, 0) to (1, 1).

    `thresholds`, `fpr`, `tpr` are float64 (m,): a record is called a member if its score is at least the threshold.
    `thresholds[0]` is +inf (no record is called a member), the rest are the distinct scores, descending. Rates are fractions.
    """

    thresholds: Floats
    fpr: Floats
    tpr: Floats
    n_member: int
    n_nonmember: int


def roc_of(ranking: Ranking) -> Roc:
    """The Roc of a Ranking."""
    return Roc(
        thresholds=np.r_[np.inf, ranking.thresholds],
        fpr=ranking.false_pos / ranking.n_nonmember,
        tpr=ranking.true_pos / ranking.n_member,
        n_member=ranking.n_member,
        n_nonmember=ranking.n_nonmember,
    )


def roc_curve(scores: ArrayLike, member: ArrayLike) -> Roc:
    """The ROC curve of `scores` (n,), higher = more likely a member, against `member` (n,) bool. ValueError on bad input."""
    return roc_of(rank(scores, member))
