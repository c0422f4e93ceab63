"""Rounds a metric to the digits that its interval supports: two significant digits of the interval's half width.

0.71834 with an interval from 0.70121 to 0.73498 becomes 0.718 (0.701 to 0.735): a further digit would be noise, and with one less the two
ends could not be told from those of a somewhat different interval.
"""

from __future__ import annotations

import math

from memberscope.metrics.estimate import Estimate

MOST = 6  # digits after the decimal point, also where an interval is narrower or has no width
WITHOUT = 4  # digits after the decimal point of a metric without an interval


def decimals(low: float | None, high: float | None) -> int:
    """The number of decimal places that an interval supports, negative for tens and more; `WITHOUT` where an end is missing."""
    if low is None or high is None:
        return WITHOUT
    half = (high - low) / 2
    if not (math.isfinite(half) and half > 0):
        return MOST
    return min(MOST, 1 - math.floor(math.log10(half)))


def rounded(value: float, places: int) -> float:
    """The number at so many decimal places; ties to even, as `round`."""
    return round(value, places) + 0.0  # no negative zero


def round_estimate(one: Estimate) -> tuple[float, float | None, float | None]:
    """Value, lower and upper end, rounded to what the interval supports; the ends still contain the value."""
    places = decimals(one.ci_low, one.ci_high)
    value, low, high = (None if number is None else rounded(number, places) for number in (one.value, one.ci_low, one.ci_high))
    assert value is not None
    return value, low, high


def shown(one: Estimate) -> tuple[str, str | None, str | None]:
    """Value and ends as text, rounded as in `round_estimate`, with thousands separated by commas."""
    places = max(0, decimals(one.ci_low, one.ci_high))
    value, low, high = (None if number is None else f"{number:,.{places}f}" for number in round_estimate(one))
    assert value is not None
    return value, low, high
