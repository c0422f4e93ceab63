"""The one-run audit of f-differential privacy (Mahloujifar, Melis & Chaudhuri 2024, arXiv 2410.22235, Algorithm 3)."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

from memberscope.metrics.estimate import check_fraction
from memberscope.metrics.gaussian_dp import check_delta, gaussian_epsilon

_INVERSE_NORMAL = NormalDist().inv_cdf
_ROOT_HALF = math.sqrt(0.5)


def fdp_one_run_epsilon(m: int, guesses: int, correct: int, *, delta: float, confidence: float) -> float:
    """A lower bound on epsilon at `delta` from one training on `m` coin-flip records, where `correct` of `guesses` are right.

    It is the epsilon of `fdp_one_run_mu` (Dong et al. 2019, Corollary 2.13), so it is conditional on a Gaussian trade-off curve: it can be
    above the epsilon of a training whose privacy has another curve, which `one_run_epsilon` allows for. 0 where nothing is
    shown. ValueError where the counts do not fit, or `delta` or `confidence` is not between 0 and 1.
    """
    check_delta(delta)
    return gaussian_epsilon(fdp_one_run_mu(m, guesses, correct, confidence=confidence), delta)


def fdp_one_run_mu(m: int, guesses: int, correct: int, *, confidence: float) -> float:
    """The largest mu up to which every mu-GDP is rejected at level 1 - `confidence`; 0 where none is.

    Assumes, as `epsilon_lower_bound` does: each of the `m` records was drawn by its own fair coin, the guesses come from the
    trained model without these coins, and their number was fixed beforehand. It is conditional on a Gaussian trade-off curve.
    ValueError where the counts do not fit, or `confidence` is not between 0 and 1.
    """
    if not 0 <= correct <= guesses <= m or m < 1:
        raise ValueError(f"correct={correct}, guesses={guesses}, m={m} must not decrease from 0, and m is at least 1")
    return largest_rejected_mu(m, guesses, correct, miss=1 - check_fraction("confidence", confidence))


@lru_cache(maxsize=4096)
def largest_rejected_mu(m: int, guesses: int, correct: int, *, miss: float, at_least: float = 0.0) -> float:
    """`fdp_one_run_mu`, or `at_least` where that is larger: the rejected values of mu are an interval from 0."""
    low = at_least
    if guesses == 0 or not is_rejected(m, guesses, correct, mu=low, miss=miss):
        return low
    high = max(1.0, 2 * low)
    while is_rejected(m, guesses, correct, mu=high, miss=miss):
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if is_rejected(m, guesses, correct, mu=middle, miss=miss) else (low, middle)
    return low


def is_rejected(m: int, guesses: int, correct: int, *, mu: float, miss: float) -> bool:
    """Whether `correct` or more right guesses have a probability below `miss` under mu-GDP, by Algorithm 3.

    With r the share of records guessed right and h that of records guessed wrong, in the event that at least i guesses are right, f-DP
    gives ``h_i >= Phi(Phi^-1(r_{i+1}) - mu)``, and from i + 1 to i r grows by i / (guesses - i) times what h grows by. If the event of
    `correct` or more had probability `miss`, both would start at ``r = miss correct / m`` and ``h = miss (guesses - correct) / m``;
    the two together can be no more than guesses / m at i = 0.
    """
    share = guesses / m
    r, h = miss * correct / m, miss * (guesses - correct) / m
    for i in range(correct - 1, -1, -1):
        if r + h > share:
            return True  # neither ever shrinks
        grown = 1.0 if r >= 1 else 0.5 * math.erfc((mu - _INVERSE_NORMAL(r)) * _ROOT_HALF)
        if grown <= h:
            break  # so neither grows from here on
        r, h = min(1.0, r + i / (guesses - i) * (grown - h)), grown
    return r + h > share
