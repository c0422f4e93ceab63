"""The result type of metrics: a value, its interval, and whether it can be relied on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

STATUSES = ("ok", "low_power", "skipped")


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The value of a metric with its interval.

    `value` is finite unless `status` is "skipped", where it is nan. `ci_low` and `ci_high` bound it at the requested confidence
    (95% by default). They are None where a metric has no valid interval on that side: both for the maxima over thresholds
    (`advantage`), and `ci_high` for the lower bounds (`epsilon_*`, where `ci_low` is `value`). `status` is "ok", "low_power" (the
    value rests on too few records to mean much; its interval still holds) or "skipped"; `reason` says why, or under which conditions
    the value holds.
    """

    value: float
    ci_low: float | None = None
    ci_high: float | None = None
    status: str = "ok"
    reason: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError where the parts contradict each other."""
        if self.status not in STATUSES:
            raise ValueError(f"status={self.status!r}; allowed: {', '.join(STATUSES)}")
        ends = [end for end in (self.ci_low, self.ci_high) if end is not None]
        if self.status == "skipped":
            if not (math.isnan(self.value) and not ends and self.reason):
                raise ValueError("a skipped metric has value nan, no interval, and a reason")
        elif not all(math.isfinite(number) for number in (self.value, *ends)):
            raise ValueError(
                f"value={self.value}, interval {self.ci_low} to {self.ci_high}: a metric that is not skipped is finite"
            )


def skipped(reason: str) -> Estimate:
    """An Estimate for a metric that cannot be computed, with the reason."""
    return Estimate(value=math.nan, status="skipped", reason=reason)


def spanning(value: float, low: float, high: float, *, status: str = "ok", reason: str = "") -> Estimate:
    """An Estimate whose interval is widened, where rounding or a discrete step demands it, to contain its own value."""
    return Estimate(
        value=float(value), ci_low=float(min(low, value)), ci_high=float(max(high, value)), status=status, reason=reason
    )


def check_scores(scores: ArrayLike, member: ArrayLike) -> tuple[Floats, Bools]:
    """Return `scores` (n,) as float64 and `member` (n,) as bool.

    Raises ValueError where the shapes are not (n,) and equal, where `member` is not boolean, where a score is nan or infinite
    (a score of +inf would be called a member at every threshold; clip it), or where a side has no record.
    """
    values = np.asarray(scores, dtype=np.float64) + 0.0  # turns -0.0 into 0.0, so that these tied scores also print alike
    truth = np.asarray(member)
    if values.ndim != 1 or truth.shape != values.shape:
        raise ValueError(f"scores {values.shape} and member {truth.shape} must both be (n,)")
    if truth.dtype != np.bool_:
        raise ValueError(f"member has type {truth.dtype}; it must be boolean")
    bad = ~np.isfinite(values)
    if bad.any():
        raise ValueError(f"scores: {int(bad.sum())} of {values.size} are nan or infinite, the first at {int(bad.argmax())}")
    n_member = int(np.count_nonzero(truth))
    if not 0 < n_member < values.size:
        raise ValueError(f"{n_member} members and {values.size - n_member} non-members; at least one of each is needed")
    return values, truth


def check_fraction(name: str, value: Any, *, closed: bool = False) -> float:
    """`value` as a float strictly between 0 and 1 (`closed`: 1 allowed), or a ValueError that names it."""
    number = float(value)
    if not (0.0 < number < 1.0 or (closed and number == 1.0)):
        raise ValueError(f"{name}={value}; it must lie between 0 and 1")
    return number
