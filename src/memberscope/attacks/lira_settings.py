"""The variance and the smoothing of `memberscope.attacks.lira`, chosen by attacking some shadows with the others.

With one model on a side, no shadow can stand in for the target. The variance is then `chosen_variance`, and the smoothing a default: 0.1
where probabilities of 0 or 1 are common, as with forests; otherwise 0.001 online and none offline.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from memberscope.attacks import likelihood, tuning
from memberscope.attacks.levels import Levels, mean_of, share_beyond
from memberscope.attacks.moments import Side, side
from memberscope.checks import BoolArray, FloatArray

PER_RECORD_FROM = 30
"""With at least this number of OUT models, the offline default lets each record have a variance of its own: the paper's 64 shadows
(section VI.B) are 32 on each side, and of 64 in complementary pairs without the target and its twin, 31 on each side are left."""
BOTH_SIDES_FROM = 0.25
"""The share of records with models on both sides from which the online default can learn how the sides of a record go together."""
SMOOTHINGS = (0.0, 1e-4, 1e-3, 1e-2, 0.03, 0.1, 0.2)
_CERTAIN = 36.0  # a scaled logit from which p rounds to 1 in float64
_OFTEN = 1e-3


@dataclass(frozen=True, kw_only=True)
class LiraSettings:
    """The settings of a LiRA, and how they were found.

    Attributes:
        variance: ``per_record``, ``global``, ``shared``, ``levels`` or ``bayes``.
        smoothing: s in [0, 1).
        how: how they were found, as a phrase for the report.
    """

    variance: str
    smoothing: float
    how: str


def chosen_variance(variance: str, member: BoolArray, *, online: bool) -> str:
    """The variance that ``auto`` selects for this (n_models, n) membership where no stand-in is possible. Online it is ``bayes``, or
    ``global`` if too few records have models on both sides; offline ``bayes`` if half of the records have enough OUT models, else
    ``global``.
    """
    if variance != "auto":
        return variance
    ins = member.sum(axis=0)
    outs = len(member) - ins
    if online:
        return "bayes" if np.mean((ins > 0) & (outs > 0)) >= BOTH_SIDES_FROM else "global"
    return "bayes" if np.median(outs) >= PER_RECORD_FROM else "global"


def usual_smoothing(levels: Levels, *, online: bool) -> float:
    """The smoothing where none can be chosen, from scaled logits of the shadows."""
    if share_beyond(levels, _CERTAIN) > _OFTEN:
        return 0.1
    return 1e-3 if online else 0.0


def choose(shadows: Levels, member: BoolArray, *, online: bool) -> LiraSettings:
    """The settings with which the attack on stand-ins works best, or the defaults where no shadow can stand in for the target.

    Args:
        shadows: scaled logits of the shadows; never the target's.
        member: (n_models, n) bool, whether that shadow was trained on that record.
        online: the variant that is tuned.
    """
    records = tuning.sample_by(mean_of(shadows), max(1000, tuning.RECORDS // shadows.queries))
    phi, known = shadows.at(records), member[:, records]
    stands = tuning.stand_ins(known, phi[:, :, 0])
    if not stands:
        return LiraSettings(
            variance=chosen_variance("auto", member, online=online),
            smoothing=usual_smoothing(shadows, online=online),
            how="defaults: no shadow can stand in for the target",
        )
    places = {stand.model: place for place, stand in enumerate(stands)}
    smoothed = {smoothing: likelihood.smooth(phi, smoothing) for smoothing in SMOOTHINGS}
    variances = ("bayes", "global", "per_record", "shared", "levels") if online else ("global", "per_record", "bayes")

    @lru_cache(maxsize=len(stands))  # settings of one smoothing follow each other, and share the moments
    def moments(smoothing: float, place: int) -> tuple[FloatArray, Side, Side]:
        stand = stands[place]
        values, used = smoothed[smoothing][:, stand.records], known[stand.references][:, stand.records]
        references = values[stand.references]
        outs = side(references, ~used)
        return values[stand.model], side(references, used) if online else outs, outs

    def attack(setting: tuple[str, float], stand: tuning.StandIn) -> FloatArray:
        variance, smoothing = setting
        values, ins, outs = moments(smoothing, places[stand.model])
        if online:
            return likelihood.two_sided_of(values, ins, outs, variance=variance)
        return likelihood.one_sided_of(values, outs, variance=variance)

    (variance, smoothing), _ = tuning.best([(v, s) for s in SMOOTHINGS for v in variances], stands, attack)
    return LiraSettings(variance=variance, smoothing=smoothing, how=f"chosen on {len(stands)} shadows attacked by the others")
