"""Rounds a metric to the digits that its interval supports: two significant digits of the interval's half width.

0.71834 with an interval from 0.70121 to 0.73498 becomes 0.718 (0.701 to 0.735): a further digit would be noise, and with one less the two
ends could not be told from those of a somewhat different interval.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from memberscope.metrics.estimate import Estimate

MOST = 6  # digits after the decimal point, also where an interval is narrower or has no width
DIGITS = 4  # significant digits of a logged metric without an interval
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


def in_full(
    name: str, place: str, value: float | None, low: float | None = None, high: float | None = None
) -> dict[str, float]:
    """A metric and the ends of its interval under the names of a run: ``auc_ci_low/PLACE``, ``auc/PLACE`` and ``auc_ci_high/PLACE``.

    They are in this order because a run's page in MLflow shows metrics in the order in which they were logged.

    Args:
        name: the metric.
        place: what the metric belongs to, such as an attack; empty for nothing, as in ``control/null_auc``.
        value, low, high: the metric and its ends; None for what is not known, which is left out.
    """
    end = f"/{place}" if place else ""
    ends = {"_ci_low": low, "": value, "_ci_high": high}
    return {f"{name}{part}{end}": float(number) for part, number in ends.items() if number is not None}


def logged(name: str, place: str, value: float | None, low: float | None = None, high: float | None = None) -> dict[str, float]:
    """The same as a run shows them: rounded to what the interval supports.

    The tables beside them keep every digit, and whatever compares runs reads those. A metric without an interval keeps `DIGITS` significant
    digits, and a whole number all of its own.
    """
    places = None if low is None or high is None else decimals(low, high)
    return {key: _logged(number, places) for key, number in in_full(name, place, value, low, high).items()}


def logged_each(values: Mapping[str, float]) -> dict[str, float]:
    """Metrics without intervals, such as accuracies and losses by epoch, as a run shows them; see `logged`."""
    return {name: _logged(float(value), None) for name, value in values.items()}


def _logged(number: float, places: int | None) -> float:
    if not math.isfinite(number):
        return number
    if places is not None:
        return rounded(number, places)
    return number if number.is_integer() else float(f"{number:.{DIGITS}g}")


def shown(one: Estimate) -> tuple[str, str | None, str | None]:
    """Value and ends as text, rounded as in `round_estimate`, with thousands separated by commas; a lower bound has three digits."""
    if one.ci_high is None and one.ci_low is not None and one.ci_low > 0:
        places = max(0, min(MOST, 2 - math.floor(math.log10(one.ci_low))))
        return f"{one.value:,.{places}f}", f"{one.ci_low:,.{places}f}", None
    places = max(0, decimals(one.ci_low, one.ci_high))
    value, low, high = (None if number is None else f"{number:,.{places}f}" for number in round_estimate(one))
    assert value is not None
    return value, low, high
