"""Gaussian differential privacy (Dong, Roth & Su 2019): its epsilon at a delta, and the mu that error rates show.

A training is mu-GDP if telling whether one record was in it is at least as hard as telling N(0, 1) from N(mu, 1) by one draw.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import log_ndtr, ndtri

from memberscope.metrics.estimate import Floats, Ints, check_fraction
from memberscope.metrics.intervals import clopper_pearson_ends

_INVERSE_NORMAL = NormalDist().inv_cdf


def check_delta(delta: Any, *, zero: bool = False) -> float:
    """`delta` as a float between 0 and 1 (`zero`: 0 allowed), or a ValueError that says what is missing or wrong."""
    if delta is None:
        raise ValueError("delta=None; a lower bound on epsilon holds at a stated delta, such as 1e-5")
    number = float(delta)
    if not (0.0 < number < 1.0 or (zero and number == 0.0)):
        raise ValueError(f"delta={delta}; it must be {'at least' if zero else 'above'} 0 and below 1")
    return number


def gaussian_delta(mu: float, epsilon: float) -> float:
    """The smallest delta at which mu-GDP implies (epsilon, delta)-privacy (Dong et al. 2019, Corollary 2.13).

    ``delta = Phi(-epsilon/mu + mu/2) - e^epsilon Phi(-epsilon/mu - mu/2)``, for `mu` and `epsilon` of at least 0; ValueError otherwise.
    """
    return math.exp(_log_gaussian_delta(_check_mu(mu), _check_epsilon(epsilon)))


@lru_cache(maxsize=4096)
def gaussian_epsilon(mu: float, delta: float) -> float:
    """The smallest epsilon at which mu-GDP implies (epsilon, delta)-privacy: `gaussian_delta` solved for epsilon; 0 where delta allows it.

    ValueError where `mu` is not finite and at least 0, or `delta` is not between 0 and 1, both excluded: at delta 0 no
    epsilon holds.
    """
    target = math.log(check_delta(delta))
    if _log_gaussian_delta(_check_mu(mu), 0.0) <= target:
        return 0.0
    # Where -epsilon/mu + mu/2 is the normal quantile of delta, the first term alone is delta.
    high = mu * (mu / 2 - _INVERSE_NORMAL(delta))
    return float(brentq(lambda epsilon: _log_gaussian_delta(mu, epsilon) - target, 0.0, high, xtol=1e-12, rtol=1e-12))


@lru_cache(maxsize=4096)
def gaussian_mu(epsilon: float, delta: float) -> float:
    """The largest mu for which mu-GDP implies (epsilon, delta)-privacy: what a promised epsilon allows; ValueError as above."""
    target = math.log(check_delta(delta))
    _check_epsilon(epsilon)
    high = 1.0
    while _log_gaussian_delta(high, epsilon) < target:
        high *= 2
    return float(brentq(lambda mu: _log_gaussian_delta(mu, epsilon) - target, 1e-12, high, xtol=1e-12, rtol=1e-12))


def gaussian_mu_bounds(false_pos: Ints, n_nonmember: int, false_neg: Ints, n_member: int, *, miss: float) -> Floats:
    """A lower bound on mu from the errors at each of k fixed thresholds, (k,) (Dong et al. 2019, Eq. 6).

    Under mu-GDP ``FNR >= Phi(Phi^-1(1 - FPR) - mu)``, so ``mu >= -Phi^-1(FPR) - Phi^-1(FNR)``; both rates take the upper end of their
    Clopper-Pearson interval, each with half of `miss`, the probability that a given bound is above the true mu. Bounds
    below 0 are kept, to be ordered by; they say nothing (the mirrored attack has to be judged by its own upper ends).

    It is conditional on a Gaussian trade-off curve, and takes the `n_nonmember` and `n_member` trials to be independent.
    """
    fpr, fnr = rate_ends(false_pos, n_nonmember, false_neg, n_member, miss=miss)
    bounds: Floats = -(ndtri(np.minimum(fpr, 1 - 1e-16)) + ndtri(np.minimum(fnr, 1 - 1e-16)))
    return np.where((fpr < 1) & (fnr < 1), bounds, -np.inf)


def gaussian_dp_epsilon(
    false_pos: int, n_nonmember: int, false_neg: int, n_member: int, *, delta: float, confidence: float
) -> float:
    """The epsilon at `delta` of the mu that the errors at one fixed threshold show: `gaussian_mu_bounds` and `gaussian_epsilon`.

    With probability `confidence` it is at most the true epsilon, on the assumptions of `gaussian_mu_bounds`; 0 where the errors
    show nothing. ValueError for counts that do not fit or a `delta` or `confidence` that is not between 0 and 1.
    """
    miss = 1 - check_fraction("confidence", confidence)
    check_delta(delta)
    check_errors(false_pos, n_nonmember, false_neg, n_member)
    (mu,) = gaussian_mu_bounds(np.array([false_pos]), n_nonmember, np.array([false_neg]), n_member, miss=miss)
    return gaussian_epsilon(max(0.0, float(mu)), delta)


def rate_ends(false_pos: Ints, n_nonmember: int, false_neg: Ints, n_member: int, *, miss: float) -> tuple[Floats, Floats]:
    """The upper ends of FPR and FNR, (k,) each; at a given threshold one or both fall short with probability at most `miss`."""
    fpr = clopper_pearson_ends(false_pos, np.full_like(false_pos, n_nonmember), miss / 2)[1]
    return fpr, clopper_pearson_ends(false_neg, np.full_like(false_neg, n_member), miss / 2)[1]


def check_errors(false_pos: int, n_nonmember: int, false_neg: int, n_member: int) -> None:
    """ValueError unless both sides have trials and no more errors than trials."""
    for name, errors, side, trials in (
        ("false_pos", false_pos, "n_nonmember", n_nonmember),
        ("false_neg", false_neg, "n_member", n_member),
    ):
        if trials < 1 or not 0 <= errors <= trials:
            raise ValueError(f"{name}={errors} of {side}={trials}; allowed: 0 to {side}, which is at least 1")


def _log_gaussian_delta(mu: float, epsilon: float) -> float:
    if mu == 0:
        return -math.inf
    first = float(log_ndtr(-epsilon / mu + mu / 2))
    second = epsilon + float(log_ndtr(-epsilon / mu - mu / 2))
    return first + math.log(-math.expm1(second - first)) if second < first else -math.inf


def _check_mu(mu: float) -> float:
    if not 0 <= mu < math.inf:
        raise ValueError(f"mu={mu}; it must be finite and at least 0")
    return mu


def _check_epsilon(epsilon: float) -> float:
    if not 0 <= epsilon < math.inf:
        raise ValueError(f"epsilon={epsilon}; it must be finite and at least 0")
    return epsilon
