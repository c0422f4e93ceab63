"""An honest ensemble of attacks: the best combination is chosen on half of the targets and reported on the other half.

With many combinations, the best one on the targets at hand is better than the best single attack by chance alone. Here the halves share
no complementary pair: a target's twin has the opposite members, and would carry what was chosen over to the other half.

A combination takes the scores of one to three attacks, each as ranks among the target's own records (members or not; no label is used),
and joins them by their mean, their largest (found by any: a union) or their smallest (found by all: an intersection).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from memberscope import seeds
from memberscope.checks import BoolArray, FloatArray
from memberscope.errors import UserError
from memberscope.exposure.base import check_fleet, twins
from memberscope.exposure.detection import passes
from memberscope.metrics import paired_seeds

MOST_ATTACKS = 3
JOINS = ("mean", "max", "min")


@dataclass(frozen=True, kw_only=True)
class Combination:
    """Some attacks, and how their ranks are joined (``mean``, ``max`` or ``min``; ``alone`` for one attack)."""

    attacks: tuple[str, ...]
    join: str

    @property
    def name(self) -> str:
        """For people: ``mean(lira_online, rmia_online)``."""
        return self.attacks[0] if self.join == "alone" else f"{self.join}({', '.join(self.attacks)})"


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """What was chosen on one half of the targets, and what it finds on the other.

    Attributes:
        fpr: the false positive rate at which everything is compared.
        chosen: the best combination on the first half.
        best_alone: the best single attack on the first half.
        tried: number of combinations.
        chosen_tpr: mean TPR of `chosen` over the first half: biased upward, since it was chosen there.
        tpr, ci_low, ci_high: its mean TPR over the second half, with a t interval over these targets (NaN with one).
        alone_tpr: that of `best_alone` over the second half.
        gain, gain_low, gain_high: mean difference of the two, paired by target.
        chosen_on, reported_on: the targets of both halves.
        reason: why nothing could be chosen; "" if something was.
    """

    fpr: float
    chosen: Combination | None = None
    best_alone: str = ""
    tried: int = 0
    chosen_tpr: float = float("nan")
    tpr: float = float("nan")
    ci_low: float = float("nan")
    ci_high: float = float("nan")
    alone_tpr: float = float("nan")
    gain: float = float("nan")
    gain_low: float = float("nan")
    gain_high: float = float("nan")
    chosen_on: tuple[int, ...] = ()
    reported_on: tuple[int, ...] = ()
    reason: str = ""


def combinations(attacks: tuple[str, ...]) -> tuple[Combination, ...]:
    """Every attack alone, and every two or three of them joined in each way."""
    found = [Combination(attacks=(attack,), join="alone") for attack in attacks]
    for size in range(2, MOST_ATTACKS + 1):
        for chosen in itertools.combinations(attacks, size):
            found += [Combination(attacks=chosen, join=join) for join in JOINS]
    return tuple(found)


def ranks(scores: FloatArray) -> NDArray[np.float32]:
    """(targets, n) each target's ranks, as shares in (0, 1]; ties share their mean."""
    found = np.empty(scores.shape, dtype=np.float32)
    for row, of_target in zip(found, scores, strict=True):
        row[:] = rankdata(of_target) / len(of_target)
    return found


def joined(combination: Combination, ranked: Mapping[str, NDArray[np.float32]]) -> FloatArray:
    """(targets, n) the scores of a combination, from each attack's `ranks`."""
    parts = np.stack([ranked[attack] for attack in combination.attacks]).astype(np.float64)
    if combination.join == "max":
        found: FloatArray = parts.max(axis=0)
    elif combination.join == "min":
        found = parts.min(axis=0)
    else:
        found = parts.mean(axis=0)
    return found


def halves(member: BoolArray, *, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Two halves of the targets (targets, n), drawn at random, that share no complementary pair; the first is at most as large."""
    other = twins(member)
    units = [
        [target] if twin < 0 else [target, int(twin)] for target, twin in enumerate(other.tolist()) if twin < 0 or target < twin
    ]
    order = seeds.stream(seed, "exposure", "ensemble").permutation(len(units))
    first: list[int] = []
    second: list[int] = []
    for unit in sorted((units[place] for place in order), key=len, reverse=True):
        side = first if len(first) < len(second) else second
        side += unit
    return np.array(sorted(first), dtype=np.intp), np.array(sorted(second), dtype=np.intp)


def ensemble(scores: Mapping[str, FloatArray], member: BoolArray, *, fpr: float, seed: int) -> Ensemble:
    """Choose the combination with the highest mean TPR at `fpr` on half of the targets, and report it on the other half.

    Args:
        scores: attack -> (targets, n), higher = more likely a member.
        member: (targets, n) bool, whether the target was trained on the record.
        fpr: the false positive rate, over each target's non-members.
        seed: the stream ``("exposure", "ensemble")`` draws the halves.

    Returns:
        The result; without a choice, and with the reason, if there are fewer than two attacks, or all targets are in one pair.

    Raises:
        UserError: arrays that do not fit each other, or a target without members.
    """
    for attack, of_targets in scores.items():
        check_fleet(member, **{attack: of_targets})
    if not member.any(axis=1).all():
        raise UserError("member: a target without members; allowed: members under every target")
    if len(scores) < 2:
        return Ensemble(fpr=fpr, reason=f"an ensemble needs two attacks; {len(scores)} ran on every target")
    first, second = halves(member, seed=seed)
    if not len(first) or not len(second):
        return Ensemble(fpr=fpr, reason="an ensemble needs targets of two complementary pairs; there is one")
    ranked = {attack: ranks(of_targets) for attack, of_targets in scores.items()}
    tried = combinations(tuple(scores))
    on_first = [_tpr(joined(one, ranked)[first], member[first], fpr).mean() for one in tried]
    best = int(np.argmax(on_first))
    alone = int(np.argmax(on_first[: len(scores)]))
    ours = _tpr(joined(tried[best], ranked)[second], member[second], fpr)
    single = _tpr(joined(tried[alone], ranked)[second], member[second], fpr)
    mean, gain = paired_seeds(ours), paired_seeds(ours - single)
    ends = [float("nan") if end is None else end for end in (mean.ci_low, mean.ci_high, gain.ci_low, gain.ci_high)]
    return Ensemble(
        fpr=fpr, chosen=tried[best], best_alone=tried[alone].name, tried=len(tried), chosen_tpr=float(on_first[best]), tpr=mean.mean,
        ci_low=ends[0], ci_high=ends[1], alone_tpr=float(single.mean()), gain=gain.mean, gain_low=ends[2], gain_high=ends[3],
        chosen_on=tuple(first.tolist()), reported_on=tuple(second.tolist()),
    )  # fmt: skip


def _tpr(scores: FloatArray, member: BoolArray, fpr: float) -> FloatArray:
    """(targets,) each target's TPR at `fpr`."""
    found: FloatArray = (passes(scores, member, fpr=fpr) & member).sum(axis=1) / member.sum(axis=1)
    return found
