"""Counts persons, or other groups, where several records belong to each.

A hospital counts patients, not visits. Where predictions have `groups`, the group is the unit of an audit: its records are never split
between an attack's training and scoring, their scores become one score of the group, and every metric, interval, permutation and half of
the data counts groups. With g identical copies of each record, all in one group, each metric and interval is that of one copy; counted as
records, the same data would have intervals that are narrower by the square root of g.

A group is a member if any of its records is. The metrics of single records are shown next to those of groups, as the slice `ROWS`, with an
interval for the AUC that allows for the correlation within groups (`memberscope.metrics.clustered.clustered_auc`) and none for the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from memberscope.checks import Array, BoolArray, FloatArray
from memberscope.errors import UserError, nearest
from memberscope.metrics import Estimate
from memberscope.metrics.clustered import clustered_auc
from memberscope.plans.whole_groups import first_few, most_frequent, numbered
from memberscope.predictions import Predictions

ROWS = "rows"
"""The name of the slice with the figures of single records."""
POOLINGS = ("mean", "max", "logsumexp")
"""How the scores of a group's records become the group's score."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Groups:
    """The groups of n records.

    Attributes:
        names: (g,) the groups as they were given, ascending.
        of: (n,) each record's group, as a position in `names`.
        member: (g,) bool, whether any of the group's records is a member.
        labels: (g,) the most frequent class among the group's records, the lowest of several; None where classes are unknown.
        counted: (n,) bool, whether the record counts toward its group's score: all but the non-member records of groups on both sides,
            since they are records of a person whom the model has seen.
        pooling: one of `POOLINGS`.
        both_sides: (b,) positions of the groups that have both members and non-members.
    """

    names: Array
    of: NDArray[np.intp]
    member: BoolArray
    labels: Array | None
    counted: BoolArray
    pooling: str
    both_sides: NDArray[np.intp]

    def __len__(self) -> int:
        """Number of groups."""
        return len(self.names)

    def pool(self, scores: FloatArray) -> FloatArray:
        """(g,) scores of the groups, from (n,) scores of their records.

        ``mean`` and ``max`` are what they say; ``logsumexp`` is log(mean(exp(score))) over the group's records: the mean of likelihood
        ratios whose logarithms are the scores. Sums over a group run in ascending order, so that the order of the records does not matter.
        """
        order = np.lexsort((scores, self.of))
        order = order[self.counted[order]]
        starts = np.flatnonzero(np.r_[True, np.diff(self.of[order]) != 0])
        sizes = np.diff(np.r_[starts, len(order)])
        values = scores[order]
        if self.pooling == "max":
            return np.asarray(np.maximum.reduceat(values, starts), dtype=np.float64)
        if self.pooling == "mean":
            first = values[starts]  # exact where all records of a group have the same score
            return np.asarray(first + np.add.reduceat(values - np.repeat(first, sizes), starts) / sizes, dtype=np.float64)
        top = np.maximum.reduceat(values, starts)
        base = np.where(np.isfinite(top), top, 0.0)
        with np.errstate(divide="ignore"):
            return np.asarray(
                base + np.log(np.add.reduceat(np.exp(values - np.repeat(base, sizes)), starts) / sizes), dtype=np.float64
            )

    def part(self, index: NDArray[np.intp] | BoolArray) -> Groups:
        """The groups of some of the records, each with only those of its records."""
        of, counted = self.of[index], self.counted[index]
        kept = np.zeros(len(self), dtype=bool)
        kept[of[counted]] = True
        place = np.cumsum(kept) - 1
        known = kept[of]
        return replace(
            self, names=self.names[kept], of=np.where(known, place[of], 0), member=self.member[kept],
            labels=None if self.labels is None else self.labels[kept], counted=counted & known,
            both_sides=place[self.both_sides[kept[self.both_sides]]],
        )  # fmt: skip

    @property
    def sentence(self) -> str:
        """How many groups there are, and a warning where some are on both sides."""
        n_in, n_out = int(self.member.sum()), int((~self.member).sum())
        text = f"Groups: {n_in:,} groups are members and {n_out:,} are not, with {len(self.of):,} records in all; metrics count groups"
        if not len(self.both_sides):
            return text + "."
        left, few = int((~self.counted).sum()), first_few(self.names[self.both_sides])
        return (
            f"{text}. {len(self.both_sides):,} groups are on both sides ({few}): they count as members, and their {left:,} non-member "
            "records do not count."
        )

    @property
    def facts(self) -> dict[str, int]:
        """Counts to log as params."""
        return {"data.groups": len(self), "data.groups_on_both_sides": len(self.both_sides)}


def check_pooling(pooling: str) -> None:
    """Raise UserError unless `pooling` is one of `POOLINGS`, with the nearest of them."""
    if pooling not in POOLINGS:
        raise UserError(f"group_scores={pooling}: unknown; allowed: {', '.join(POOLINGS)}{nearest(pooling, POOLINGS)}")


def make_groups(groups: Array, member: BoolArray, labels: Array | None, *, pooling: str = "mean") -> Groups:
    """The groups of records.

    Args:
        groups: (n,) ints or text.
        member: (n,) bool.
        labels: (n,) classes, or None.
        pooling: one of `POOLINGS`.

    Raises:
        UserError: an unknown `pooling`.
    """
    check_pooling(pooling)
    names, of = numbered(groups)
    rows, inside = np.bincount(of, minlength=len(names)), np.bincount(of, weights=member, minlength=len(names))
    shared = (inside > 0) & (inside < rows)
    return Groups(
        names=names, of=of, member=inside > 0, labels=None if labels is None else most_frequent(of, labels, len(names)),
        counted=member | ~shared[of], pooling=pooling, both_sides=np.flatnonzero(shared),
    )  # fmt: skip


def counted(scores: FloatArray, target: Predictions, *, group_scores: str = POOLINGS[0]) -> tuple[FloatArray, BoolArray]:
    """The scores and the membership of what metrics count: the target's groups, or its records where there are none.

    Args:
        scores: (n,) of the target's records.
        target: n records.
        group_scores: one of `POOLINGS`.

    Returns:
        Scores and membership, (g,) of the groups or (n,) of the records.
    """
    if target.groups is None:
        return scores, target.member
    groups = make_groups(target.groups, target.member, target.labels, pooling=group_scores)
    return groups.pool(scores), groups.member


def of_rows(
    figures: Mapping[str, Estimate], scores: FloatArray, member: BoolArray, groups: Array, *, confidence: float = 0.95
) -> dict[str, Estimate]:
    """The figures of single records, with the only interval that holds where records of a group are correlated, that of the AUC.

    Args:
        figures: the figures of the records, as if each were a group of its own; null controls and bounds of epsilon are left out.
        scores: (n,).
        member: (n,) bool.
        groups: (n,) the records' groups.
        confidence: of the AUC's interval.
    """
    why = "records of one group are correlated: no interval"
    plain = {
        name: replace(figure, ci_low=None, ci_high=None, reason=figure.reason or why)
        for name, figure in figures.items()
        if not name.startswith(("null_", "epsilon_")) and figure.status != "skipped"
    }
    return {**plain, "auc": clustered_auc(scores, member, groups, confidence=confidence)}
