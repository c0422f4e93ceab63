"""Compares runs: by paired tests where the records are the same, and by separate intervals where they are not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from memberscope import metrics, seeds
from memberscope.report import facts
from memberscope.scores import KeptScores
from memberscope.secret import VARIABLE
from memberscope.tracking import KeptRun

FPR = 0.01


@dataclass(frozen=True, kw_only=True)
class ComparedRow:
    """One metric of one attack, in two runs.

    Attributes:
        attack, metric: the attack and the metric that are compared.
        first, second: the values in the two runs.
        difference, ci_low, ci_high: second minus first, with its own, unadjusted 95% interval.
        p_value: the two-sided p-value of the paired test; None where the records differ.
        p_holm: the p-value adjusted over all paired tests of the page; None where the records differ.
        weak: whether a value rests on too few records.
        note: why it is weak.
    """

    attack: str
    metric: str
    first: float
    second: float
    difference: float
    ci_low: float
    ci_high: float
    p_value: float | None = None
    p_holm: float | None = None
    weak: bool = False
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two runs and their comparison.

    Attributes:
        first, second: the runs.
        paired: whether both audited the same records with the same members.
        why: the reason for `paired`, in words.
        rows: the comparisons.
    """

    first: KeptRun
    second: KeptRun
    paired: bool
    why: str
    rows: tuple[ComparedRow, ...]


def compare_runs(runs: Sequence[KeptRun], *, seed: int) -> list[Pair]:
    """Compare every run with the first; p-values are adjusted over all comparisons (Holm).

    All runs are compared with one reference, not each with each other: the user chooses the reference by naming it first.
    """
    pairs = [_pair(runs[0], other, seed) for other in runs[1:]]
    tested = [(k, n) for k, pair in enumerate(pairs) for n, row in enumerate(pair.rows) if row.p_value is not None]
    values = [pairs[k].rows[n].p_value for k, n in tested]
    adjusted = metrics.holm([value for value in values if value is not None])
    by_place = dict(zip(tested, map(float, adjusted), strict=True))
    return [
        replace(pair, rows=tuple(replace(row, p_holm=by_place.get((k, n))) for n, row in enumerate(pair.rows)))
        for k, pair in enumerate(pairs)
    ]


def match(first: KeptScores | None, second: KeptScores | None) -> tuple[NDArray[np.int64] | None, str]:
    """The positions of the first run's records in the second, and a description; None for the positions if the records are not the same.

    The records are the same if each record of either run is in the other, and both agree on who is a member. Records that are identified
    by their content may occur several times, since copies get equal scores; other ids must be unique.
    """
    if first is None or second is None:
        return None, "the scores of individual records were not stored with both runs"
    if first.record_ids is None or second.record_ids is None:
        return None, "the records have no ids, so that they cannot be matched"
    if first.source != second.source:
        return None, "the record ids refer to different data sets"
    ids, others = first.record_ids, second.record_ids
    if ids.dtype.kind != others.dtype.kind:
        return None, "the record ids are of different kinds"
    if first.source != "content" and (len(np.unique(ids)) != len(ids) or len(np.unique(others)) != len(others)):
        return None, "some record ids occur several times, so that the records cannot be matched one to one"
    shared = int(np.isin(ids, others).sum())
    here, there = np.lexsort((first.member, ids)), np.lexsort((second.member, others))
    if len(ids) != len(others) or not np.array_equal(ids[here], others[there]):
        return None, f"only {shared:,} of the {len(ids):,} records of the first run are among the {len(others):,} of the second"
    differ = int((first.member[here] != second.member[there]).sum())
    if differ:
        return None, f"the records are the same, but {differ:,} of {len(ids):,} are members in one run only"
    order = np.empty(len(ids), dtype=np.int64)
    order[here] = there
    return order, f"the same {len(ids):,} records with the same members"


def _pair(first: KeptRun, second: KeptRun, seed: int) -> Pair:
    order, why = match(first.scores, second.scores)
    if first.sealed or second.sealed:
        order, why = (
            None,
            f"the scores of individual records were written with another key ({VARIABLE} gives the key of another machine)",
        )
    if order is None or first.scores is None or second.scores is None:
        return Pair(first=first, second=second, paired=False, why=why, rows=tuple(_unpaired(first, second)))
    rows: list[ComparedRow] = []
    member = first.scores.member
    for attack in [name for name in first.scores.ranks if name in second.scores.ranks]:
        a, b = second.scores.ranks[attack][order].astype(np.float64), first.scores.ranks[attack].astype(np.float64)
        rng = seeds.stream(seed, "report", first.id, second.id, attack)
        found = {
            "auc": metrics.compare_auc(a, b, member),
            "tpr_at_fpr_0_01": metrics.compare_tpr(a, b, member, fpr=FPR, rng=rng),
        }
        for metric, test in found.items():
            if test.status != "skipped":
                rows.append(
                    ComparedRow(
                        attack=attack, metric=metric, first=test.value_b, second=test.value_a, difference=test.difference,
                        ci_low=test.ci_low, ci_high=test.ci_high, p_value=test.p_value, weak=test.status == "low_power",
                        note=test.reason,
                    )
                )  # fmt: skip
    rows.sort(key=lambda row: row.metric)  # AUCs first; attacks keep their order
    return Pair(first=first, second=second, paired=True, why=why, rows=tuple(rows))


def _unpaired(first: KeptRun, second: KeptRun) -> list[ComparedRow]:
    """AUCs side by side; the interval of the difference combines the two intervals as if independent (MOVER, Zou & Donner 2008)."""
    rows: list[ComparedRow] = []
    shared = [name for name in facts.attacks(first) if name in facts.attacks(second)]
    for attack in shared:
        a, b = facts.figure(second, attack, "auc"), facts.figure(first, attack, "auc")
        ends = (a.value, a.ci_low, a.ci_high, b.value, b.ci_low, b.ci_high)
        if any(end is None for end in ends):
            continue
        value_a, low_a, high_a, value_b, low_b, high_b = (float(end or 0.0) for end in ends)
        difference = value_a - value_b
        rows.append(
            ComparedRow(
                attack=attack, metric="auc", first=value_b, second=value_a, difference=difference,
                ci_low=difference - math.hypot(value_a - low_a, high_b - value_b),
                ci_high=difference + math.hypot(high_a - value_a, value_b - low_b),
            )
        )  # fmt: skip
    return rows
