"""Compares two settings over seeds: the seed is the unit of analysis, and differences are paired by seed."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtri, stdtr, stdtrit

from memberscope.metrics.estimate import Estimate, Floats, check_fraction, skipped

LEAST_SEEDS = 5
_MOST_SEEDS = 10_000
_POWER = 0.8


@dataclass(frozen=True, kw_only=True)
class SeedDifference:
    """The mean of per-seed paired differences. With one seed, the interval and the p-value are None, and `reason` says why."""

    n_seeds: int
    mean: float
    sd: float | None
    ci_low: float | None
    ci_high: float | None
    p_value: float | None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict on one comparison over seeds.

    `verdict` is "increases", "decreases", "no difference", "inconclusive" or "not assessed". `p_adjusted` is the two-sided
    p-value after Holm (`p_value` where nothing was adjusted), `p_equivalence` that of the equivalence test, adjusted likewise.
    `within_margin`: whether the difference, whatever its sign, was shown to be smaller than the margin.
    """

    verdict: str
    difference: SeedDifference
    margin: float
    p_adjusted: float | None
    p_equivalence: float | None
    within_margin: bool
    seeds_to_decide: Estimate
    reason: str = ""


def paired_seeds(differences: ArrayLike, *, confidence: float = 0.95) -> SeedDifference:
    """Student's t interval and two-sided p-value for `differences` (n_seeds,), one per seed.

    Each seed must redraw the split, the initialization and the order of the records, alike for both settings. ValueError where a difference
    is not finite or there are none.
    """
    check_fraction("confidence", confidence)
    values = _differences(differences)
    n, mean = values.size, float(values.mean())
    if n == 1:
        return SeedDifference(
            n_seeds=1,
            mean=mean,
            sd=None,
            ci_low=None,
            ci_high=None,
            p_value=None,
            reason="one seed gives no standard deviation",
        )
    sd = float(values.std(ddof=1))
    error = sd / math.sqrt(n)
    half = float(stdtrit(n - 1, 0.5 + confidence / 2)) * error
    return SeedDifference(
        n_seeds=n,
        mean=mean,
        sd=sd,
        ci_low=mean - half,
        ci_high=mean + half,
        p_value=2 * _upper_tail(n, abs(mean), error),
        reason="" if sd > 0 else "all differences are equal: did the seed change both settings?",
    )


def equivalence(differences: ArrayLike, *, margin: float) -> float:
    """The p-value of two one-sided t tests (Schuirmann 1987): small where the mean is shown to lie within +-`margin`.

    A p-value of at most 0.05 is equivalent to a 90% t interval inside the margin. It is 1 with one seed. ValueError unless margin > 0.
    """
    if not margin > 0:
        raise ValueError(f"margin={margin}; it must be above 0")
    values = _differences(differences)
    if values.size == 1:
        return 1.0
    error = float(values.std(ddof=1)) / math.sqrt(values.size)
    mean = float(values.mean())
    return max(_upper_tail(values.size, margin - mean, error), _upper_tail(values.size, margin + mean, error))


def holm(p_values: ArrayLike) -> Floats:
    """Holm's (1979) adjusted p-values, in the given order: rejecting those <= alpha makes any error with probability <= alpha."""
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != 1 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p_values must be (k,) and lie between 0 and 1")
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1)), 1.0)
    return adjusted


def verdict(
    differences: ArrayLike,
    *,
    margin: float,
    confidence: float = 0.95,
    p_adjusted: float | None = None,
    p_equivalence: float | None = None,
) -> Verdict:
    """The verdict on one comparison: per-seed `differences` (n_seeds,) and the smallest difference that matters, `margin`.

    It is "increases" or "decreases" where the (adjusted) p-value is at most 1 - `confidence`; else "no difference" where that of
    the equivalence test is; else "inconclusive", as always with two to four seeds; and "not assessed" with one seed. Each of
    the first three is wrong in at most 1 - `confidence` of cases. Pass adjusted p-values where there are several
    comparisons, or call `verdicts`.
    """
    miss = 1 - check_fraction("confidence", confidence)
    difference = paired_seeds(differences, confidence=confidence)
    shown_small = equivalence(differences, margin=margin) if p_equivalence is None else p_equivalence
    p = difference.p_value if p_adjusted is None else p_adjusted
    n, reason = difference.n_seeds, difference.reason
    if difference.p_value is None or p is None:
        word, reason = "not assessed", "one seed; at least 5 are needed"
    elif n < LEAST_SEEDS:
        word, reason = "inconclusive", f"at least {LEAST_SEEDS} seeds are needed for a verdict"
    elif p <= miss:
        word = "increases" if difference.mean > 0 else "decreases"
    elif shown_small <= miss:
        word = "no difference"
    else:
        word = "inconclusive"
    return Verdict(
        verdict=word,
        difference=difference,
        margin=margin,
        p_adjusted=p,
        p_equivalence=None if difference.p_value is None else shown_small,
        within_margin=n >= LEAST_SEEDS and shown_small <= miss,
        seeds_to_decide=seeds_to_decide(differences, margin=margin, confidence=confidence),
        reason=reason,
    )


def verdicts(
    comparisons: Mapping[str, Sequence[float] | Floats], *, margin: float, confidence: float = 0.95
) -> dict[str, Verdict]:
    """The verdict on each of several comparisons, by name; Holm adjusts the two-sided p-values, and separately the equivalence tests.

    Comparisons with one seed are not assessed and do not count.
    """
    tests = {name: p for name, values in comparisons.items() if (p := paired_seeds(values).p_value) is not None}
    assessed = list(tests)
    adjusted = dict(zip(assessed, holm([tests[name] for name in assessed]), strict=True))
    small = dict(zip(assessed, holm([equivalence(comparisons[name], margin=margin) for name in assessed]), strict=True))
    return {
        name: verdict(
            values, margin=margin, confidence=confidence, p_adjusted=adjusted.get(name), p_equivalence=small.get(name)
        )
        for name, values in comparisons.items()
    }


def seeds_to_decide(differences: ArrayLike, *, margin: float, confidence: float = 0.95) -> Estimate:
    """About how many seeds would give a verdict with probability 0.8, if the observed mean difference were the true one.

    It is the smaller of the numbers that the two-sided t test and the equivalence test need, and at least 5. Its interval comes
    from that of the standard deviation (chi-squared, at `confidence`), with the mean held fixed. Skipped with one seed, or if
    more than 10,000 seeds are needed.
    """
    miss = 1 - check_fraction("confidence", confidence)
    values = _differences(differences)
    if values.size < 2:
        return skipped("one seed gives no standard deviation")
    mean, sd, freedom = float(values.mean()), float(values.std(ddof=1)), values.size - 1
    spread = (sd * math.sqrt(freedom / float(chdtri(freedom, tail))) for tail in (miss / 2, 1 - miss / 2))
    needs = [_seeds_needed(mean, one, margin, miss) for one in (sd, *spread)]
    if max(needs) > _MOST_SEEDS:
        return skipped(f"more than {_MOST_SEEDS} seeds may be needed; about {needs[0]} at the observed standard deviation")
    return Estimate(value=float(needs[0]), ci_low=float(needs[1]), ci_high=float(needs[2]))


def _seeds_needed(mean: float, sd: float, margin: float, miss: float) -> int:
    def decided(n: int) -> bool:
        if sd == 0:
            return True
        root, freedom = math.sqrt(n), n - 1
        shift = abs(mean) / sd * root
        # A shifted Student's t in place of the noncentral t: accurate enough for "about how many", and fast.
        if float(stdtr(freedom, shift - stdtrit(freedom, 1 - miss / 2))) >= _POWER:
            return True
        # Both one-sided tests pass: the mean's error stays inside the margin less the critical value on either side.
        inner = margin / sd * root - float(stdtrit(freedom, 1 - miss))
        return float(stdtr(freedom, inner - shift) - stdtr(freedom, -inner - shift)) >= _POWER

    if not decided(_MOST_SEEDS):
        return _MOST_SEEDS + 1
    return bisect_left(range(_MOST_SEEDS), True, lo=LEAST_SEEDS, key=decided)


def _upper_tail(n: int, distance: float, error: float) -> float:
    """P[T > distance / error] of Student's t with n - 1 degrees of freedom."""
    if error == 0:
        return 0.0 if distance > 0 else (0.5 if distance == 0 else 1.0)
    return float(stdtr(n - 1, -distance / error))


def _differences(differences: ArrayLike) -> Floats:
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
        raise ValueError(f"differences {values.shape} must be (n_seeds,), finite, and at least one")
    return values
