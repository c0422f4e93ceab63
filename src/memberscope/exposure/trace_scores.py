"""How closely a measure that needs no shadow models ranks members as a fleet of shadow models does.

A fleet finds some of a target's members by LiRA at a low false positive rate. A measure of the loss trace ranks all members. Precision at
k is the share of the fleet's finds among the k members that the measure ranks highest, recall the share of the fleet's finds that are
among these k (Pollock et al. 2024, with k of 1% of the members and a false positive rate of .001). The precision of random ranks
is the share of members that the fleet finds, which is reported as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from memberscope.attacks.loss_trace import final_loss, lt_iqr, mean_loss
from memberscope.checks import Array, BoolArray, FloatArray, check_finite
from memberscope.errors import UserError
from memberscope.exposure.detection import passes
from memberscope.metrics.intervals import clopper_pearson_ends

TOP_SHARE = 0.01  # k as a share of the members
FPR = 0.001  # false positive rate at which the fleet finds records

MEASURES: Mapping[str, Callable[[Array], FloatArray]] = {"final": final_loss, "mean": mean_loss, "lt_iqr": lt_iqr}
"""Measures of a loss trace (n, epochs), each (n,) in nats; higher = more exposed, since outliers are learned late and kept badly."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """A measure compared with a fleet, over the members of one target.

    Attributes:
        measure: the measure's name.
        members: number of members.
        k: number of members that are ranked highest.
        found: number of members that the fleet finds.
        hits: number of the fleet's finds among the k, with ties at the k-th place counted in proportion.
        rank_correlation: Spearman's, of the measure and the fleet's score over the members; NaN where one of them is constant.
    """

    measure: str
    members: int
    k: int
    found: int
    hits: float
    rank_correlation: float

    @property
    def precision(self) -> float:
        """Share of the k that the fleet finds."""
        return self.hits / self.k

    @property
    def recall(self) -> float:
        """Share of the fleet's finds that are among the k; NaN where it finds none."""
        return self.hits / self.found if self.found else float("nan")

    @property
    def chance(self) -> float:
        """The precision of random ranks."""
        return self.found / self.members

    def precision_interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Clopper and Pearson's interval of the precision, over the k."""
        low, high = clopper_pearson_ends(np.array([round(self.hits)]), np.array([self.k]), (1 - confidence) / 2)
        return float(low[0]), float(high[0])


def agreement(
    values: Array, fleet_scores: Array, member: Array, *, measure: str, top_share: float = TOP_SHARE, fpr: float = FPR
) -> Agreement:
    """Compare a measure of a target's records with a fleet's attack on the same records.

    Args:
        values: (n,) the measure; higher = more exposed.
        fleet_scores: (n,) the attack's scores; higher = more likely a member.
        member: (n,) bool.
        measure: its name.
        top_share: k as a share of the members, rounded, at least 1.
        fpr: false positive rate, over the target's non-members, at which the fleet finds records.

    Raises:
        UserError: arrays that do not fit together or are not finite, no members or no non-members, shares out of range.
    """
    for name, array in (("values", values), ("fleet_scores", fleet_scores)):
        if array.shape != member.shape or member.ndim != 1:
            raise UserError(f"{name}: shape {array.shape}; allowed: {member.shape}, one for each record")
        check_finite(name, array)
    if member.dtype != np.bool_ or member.all() or not member.any():
        raise UserError("member: not bool with both values; allowed: at least one member and one non-member")
    for name, share in (("top_share", top_share), ("fpr", fpr)):
        if not 0.0 < share < 1.0:
            raise UserError(f"{name}: {share:g}; allowed: above 0 and below 1")
    found: BoolArray = passes(np.asarray(fleet_scores, np.float64)[None], member[None], fpr=fpr)[0][member]
    own, theirs = values[member], fleet_scores[member]
    k = max(1, round(top_share * len(own)))
    return Agreement(
        measure=measure, members=len(own), k=k, found=int(found.sum()), hits=_hits(own, found, k), rank_correlation=_spearman(own, theirs)
    )  # fmt: skip


def _hits(values: Array, found: BoolArray, k: int) -> float:
    """The finds among the k highest; of values that tie at the k-th place, those that fit, as many finds as on average."""
    edge = np.partition(values, len(values) - k)[len(values) - k]
    above, tied = values > edge, values == edge
    return float(found[above].sum() + found[tied].mean() * (k - above.sum()))


def _spearman(first: Array, second: Array) -> float:
    from scipy.stats import spearmanr

    if len(np.unique(first)) < 2 or len(np.unique(second)) < 2:
        return float("nan")
    return float(spearmanr(first, second).statistic)


def compare_trace(
    losses: Array, fleet_scores: Array, member: Array, *, top_share: float = TOP_SHARE, fpr: float = FPR
) -> list[Agreement]:
    """`agreement` of each of `MEASURES` of a loss trace (n, epochs), in their order."""
    return [
        agreement(measure(losses), fleet_scores, member, measure=name, top_share=top_share, fpr=fpr)
        for name, measure in MEASURES.items()
    ]
