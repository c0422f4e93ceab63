"""Which attack finds which records: how far attacks, and repetitions of one attack, find the same members.

The question and the terms are those of Wang et al. 2025, "Membership Inference Attacks as Privacy Tools: Reliability, Disparity and
Ensemble" (MIAE): an attack is repeated with other shadows and another seed; its *coverage* is the set of members that any repetition
finds, its *stability* the set that all of them find; two attacks *differ* where the sets have a small Jaccard similarity. Every
repetition finds at the same false positive rate, with a threshold of its own over the target's non-members.

Everything is counted per target; intervals are t intervals over targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from memberscope.checks import BoolArray
from memberscope.errors import UserError
from memberscope.metrics import paired_seeds

if TYPE_CHECKING:
    import pandas as pd

PAIR_COLUMNS = ("fpr", "first", "second", "set", "jaccard", "ci_low", "ci_high", "both", "first_only", "second_only", "targets")
SET_COLUMNS = (
    "fpr", "attack", "repetitions", "found", "coverage", "stability", "jaccard", "jaccard_low", "jaccard_high", "members", "targets",
)  # fmt: skip


def jaccard(one: BoolArray, other: BoolArray) -> float:
    """Size of the intersection over size of the union of two sets (n,); NaN if both are empty."""
    union = int((one | other).sum())
    return float((one & other).sum()) / union if union else float("nan")


def coverage_and_stability(found: Mapping[str, BoolArray], member: BoolArray, *, fpr: float) -> pd.DataFrame:
    """Each attack's members found by one repetition, by any and by all of them.

    Args:
        found: attack -> (repetitions, targets, n) bool, whether the repetition's score passed under the target.
        member: (targets, n) bool, whether the target was trained on the record.
        fpr: the false positive rate, for the table.

    Returns:
        Columns fpr, attack, repetitions; found, coverage, stability: mean number of members over targets; jaccard: mean
        similarity of two repetitions over targets, with its t interval; members: mean number; targets. With one repetition, jaccard is NaN.

    Raises:
        UserError: arrays that do not fit each other.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for attack, passed in found.items():
        inside = _members(attack, passed, member)
        alike = [
            float(np.nanmean(pairs))
            for pairs in (_similarities(inside[:, target]) for target in range(len(member)))
            if not np.isnan(pairs).all()
        ]
        rows.append(
            {
                "fpr": fpr, "attack": attack, "repetitions": len(passed), "found": inside.sum(axis=2).mean(),
                "coverage": inside.any(axis=0).sum(axis=1).mean(), "stability": inside.all(axis=0).sum(axis=1).mean(),
                **_over_targets(alike, "jaccard"), "members": member.sum(axis=1).mean(), "targets": len(member),
            }
        )  # fmt: skip
    return pd.DataFrame(rows, columns=list(SET_COLUMNS))


def agreement(found: Mapping[str, BoolArray], member: BoolArray, *, fpr: float) -> pd.DataFrame:
    """How similar the members are that each two attacks find: by their first repetitions, by coverage and by stability.

    Args:
        found, member, fpr: as in `coverage_and_stability`.

    Returns:
        Columns fpr, first, second, set (``one``, ``coverage`` or ``stability``; the last two with at least two repetitions),
        jaccard with ci_low and ci_high over targets, both, first_only, second_only: mean numbers of members, targets: those where either
        found anyone.

    Raises:
        UserError: arrays that do not fit each other.
    """
    import pandas as pd

    sets: dict[str, dict[str, BoolArray]] = {}
    for attack, passed in found.items():
        inside = _members(attack, passed, member)
        sets[attack] = {"one": inside[0]}
        if len(inside) > 1:
            sets[attack] |= {"coverage": inside.any(axis=0), "stability": inside.all(axis=0)}
    rows: list[dict[str, Any]] = []
    names = list(sets)
    for place, first in enumerate(names):
        for second in names[place + 1 :]:
            for kind in (kind for kind in sets[first] if kind in sets[second]):
                one, other = sets[first][kind], sets[second][kind]
                alike = [jaccard(a, b) for a, b in zip(one, other, strict=True)]
                row = _over_targets([value for value in alike if value == value], "jaccard")
                rows.append(
                    {
                        "fpr": fpr, "first": first, "second": second, "set": kind, "jaccard": row["jaccard"],
                        "ci_low": row["jaccard_low"], "ci_high": row["jaccard_high"], "both": (one & other).sum(axis=1).mean(),
                        "first_only": (one & ~other).sum(axis=1).mean(), "second_only": (other & ~one).sum(axis=1).mean(),
                        "targets": sum(value == value for value in alike),
                    }
                )  # fmt: skip
    return pd.DataFrame(rows, columns=list(PAIR_COLUMNS))


def _members(attack: str, passed: BoolArray, member: BoolArray) -> BoolArray:
    """(repetitions, targets, n) members found."""
    if passed.ndim != 3 or passed.shape[1:] != member.shape or passed.dtype != np.bool_:
        raise UserError(
            f"found: {passed.dtype} of shape {passed.shape} for {attack}; allowed: booleans of shape (repetitions, "
            f"{', '.join(map(str, member.shape))})"
        )
    found: BoolArray = passed & member
    return found


def _similarities(inside: BoolArray) -> list[float]:
    """The similarity of each two repetitions (repetitions, n); one NaN if there is only one."""
    last = len(inside)
    return [jaccard(inside[i], inside[j]) for i in range(last) for j in range(i + 1, last)] or [float("nan")]


def _over_targets(values: Sequence[float], name: str) -> dict[str, float]:
    """The mean with its t interval; NaN where there are no values, or no interval."""
    nothing = float("nan")
    if not values:
        return {name: nothing, f"{name}_low": nothing, f"{name}_high": nothing}
    mean = paired_seeds(values)
    low, high = (nothing if end is None else float(np.clip(end, 0.0, 1.0)) for end in (mean.ci_low, mean.ci_high))
    return {name: mean.mean, f"{name}_low": low, f"{name}_high": high}
