"""Finds the scale of a table of scores, by the same rule for model outputs, for `Predictions` and for their files.

If softmax outputs or percentages were mistaken for logits, or sigmoids for either, an audit would silently measure something else. Messages
from here say what the values look like, and what to give instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from memberscope.checks import SUM_TOLERANCE, Array, BoolArray, FloatArray, is_number, shown_place
from memberscope.errors import UserError
from memberscope.file_state import loaded
from memberscope.pieces import pieces

PERCENT = 100.0
SPREAD = 0.5
"""Values in [0, 1] are taken to be sigmoids if those of some column span more than this. The logits of a model that learned almost nothing
may lie there, too, but vary far less.
"""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Properties of (..., classes) numbers by which their scale is found.

    Attributes:
        low: the smallest number.
        high: the largest number.
        least: the smallest sum of a row.
        most: the largest sum of a row.
        spread: the widest range of a column.
        log_sum: whether the rows of exp(value) sum to one.
        minus_log_sum: whether the rows of exp(-value) sum to one.
    """

    low: float
    high: float
    least: float
    most: float
    spread: float
    log_sum: bool
    minus_log_sum: bool

    @property
    def total(self) -> float | None:
        """The sum that all rows share, to the precision that probabilities need; None if sums differ or a number is negative."""
        if self.low < 0 or not 0 < self.most < 1e300 or self.most - self.least > 2 * SUM_TOLERANCE * self.most:
            return None
        middle = (self.least + self.most) / 2
        near = round(middle) if middle > 0.5 else middle
        return float(near) if near and abs(middle - near) <= SUM_TOLERANCE * near else middle

    @property
    def sums_to_one(self) -> bool:
        """Whether all rows are non-negative and sum to one."""
        return self.low >= 0 and max(abs(self.least - 1), abs(self.most - 1)) <= SUM_TOLERANCE

    @property
    def varies(self) -> bool:
        """Whether the rows differ at all."""
        return self.spread > 0


def facts(scores: Array) -> Facts:
    """Measure (..., classes) finite numbers, at least one row, in chunks of rows."""
    least, most, log_sum, minus_log_sum = np.inf, -np.inf, True, True
    lows, highs = np.full(scores.shape[-1], np.inf), np.full(scores.shape[-1], -np.inf)
    for _, piece in pieces(scores, keep=1):
        part = np.asarray(piece, dtype=np.float64).reshape(-1, scores.shape[-1])
        with np.errstate(over="ignore"):  # of the largest numbers, whose sum is then infinite
            total = part.sum(axis=1)
        least, most = min(least, float(total.min())), max(most, float(total.max()))
        lows, highs = np.minimum(lows, part.min(axis=0)), np.maximum(highs, part.max(axis=0))
        log_sum = log_sum and _exp_sums_to_one(part)
        minus_log_sum = minus_log_sum and _exp_sums_to_one(-part)
    return Facts(
        low=float(lows.min()), high=float(highs.max()), least=least, most=most, spread=float((highs - lows).max()),
        log_sum=log_sum, minus_log_sum=minus_log_sum,
    )  # fmt: skip


def _exp_sums_to_one(part: FloatArray) -> bool:
    return bool(part.max() <= SUM_TOLERANCE and np.abs(np.exp(part).sum(axis=1) - 1).max() <= SUM_TOLERANCE)


def shares(total: float) -> str:
    """A name for rows that all sum to `total`."""
    return "percentages" if total == PERCENT else f"shares of {total:.6g}"


def not_logits(scores: Array) -> tuple[str, str] | None:
    """Why (..., classes) finite numbers cannot be logits, and what to give instead; None if they may be logits.

    Logits may be shifted by any number, so values that the user calls logits are refused only if they are probabilities, percentages, or
    one sigmoid per class. If all rows are equal, their scale makes no difference, and they are accepted.
    """
    if not scores.size or loaded(scores[(0,) * (scores.ndim - 1)]).min() < 0:  # the first row settles it for most logits
        return None
    found = facts(scores)
    if found.low < 0 or not found.varies:
        return None
    if found.sums_to_one:
        return "the rows are non-negative and sum to one: probabilities", "give them as probs"
    if found.total == PERCENT:
        return "the rows are non-negative and all sum to 100: percentages", "give them as probs, divided by 100"
    if found.high <= 1 and found.spread > SPREAD:
        return f"all values lie in [0, 1] and the rows sum to {_range(found)}: apparently one sigmoid per class", SIGMOIDS
    return None


SIGMOIDS = "normalize the rows and give them as probs, or give the sigmoids' logits, log(p / (1 - p)), as logits"


def check_logits(name: str, logits: Array) -> None:
    """Raise UserError for numbers that cannot be logits; see `not_logits`."""
    found = not_logits(logits)
    if found is not None:
        raise UserError(f"{name}: {found[0]}; allowed: logits, or {found[1]}")


def check_probs(name: str, probs: Array, *, released: bool) -> None:
    """Raise UserError unless every row of `probs` (..., classes) is non-negative and, if not `released`, sums to one."""
    if not probs.size:
        return
    found = facts(probs)
    if found.low >= 0 and (found.most <= 1 + SUM_TOLERANCE if released else found.sums_to_one):
        return
    if found.low < 0:
        if found.log_sum:
            raise UserError(f"{name}: logarithms of probabilities; allowed: probabilities, or these numbers as logits")
        count, first = 0, ""
        for start, piece in pieces(probs, keep=1):
            if (negative := piece < 0).any():
                first = first or shown_place(start, negative)
                count += int(negative.sum())
        raise UserError(
            f"{name}: {count} negative values, the first at {first}; probabilities lie in [0, 1]; "
            "allowed: rows that sum to one, or scores before the softmax as logits"
        )
    count, first = _off(probs, released=released)
    if found.total is not None and found.varies and found.total > 1 and not released:
        raise UserError(
            f"{name}: all rows sum to {found.total:.6g}: {shares(found.total)}; allowed: each divided by {found.total:.6g}"
        )
    if released:
        way = "" if found.total is None else f": each divided by {found.total:.6g}, which is what all rows sum to"
        raise UserError(f"{name}: {count} rows sum to more than one, the first to {first}; allowed: at most 1{way}")
    if found.most <= 1 + SUM_TOLERANCE:
        way = "normalize the rows, or set released=true for a release that publishes only part of the probabilities"
    elif found.high <= 1:
        way = f"if it is one sigmoid per class, {SIGMOIDS}"
    elif found.minus_log_sum:
        way = "these are negative logarithms of probabilities: change their sign and give them as logits"
    else:
        way = "normalize the rows, or give scores before the softmax as logits"
    raise UserError(
        f"{name}: {count} rows do not sum to one, the first to {first}; allowed: sums of 1, within {SUM_TOLERANCE:g}: {way}"
    )


def _off(probs: Array, *, released: bool) -> tuple[int, str]:
    """How many rows of `probs` do not sum to one (`released`: sum to more), and the first of them, for a message."""
    count, first = 0, ""
    for start, piece in pieces(probs, keep=1):
        with np.errstate(over="ignore"):  # as in `facts`
            total = np.asarray(piece.sum(axis=-1, dtype=np.float64))
        off: BoolArray = total > 1 + SUM_TOLERANCE if released else np.abs(total - 1) > SUM_TOLERANCE
        if off.any():
            first = first or f"{total[off][0]:.6g} in row {shown_place(start, off)}"
            count += int(off.sum())
    return count, first


def are_probs(array: Array) -> bool:
    """Whether all rows of (..., classes) values are shares that sum to one."""
    if not is_number(array) or not array.size or array.shape[-1] < 2:
        return False
    first = loaded(array[(slice(0, 1),) * (array.ndim - 1)])  # settles it for most arrays, without reading all of them
    if not (np.isfinite(first).all() and facts(first).sums_to_one):
        return False
    if not all(bool(np.isfinite(piece).all()) for _, piece in pieces(array)):
        return False
    return facts(array).sums_to_one


def _range(found: Facts) -> str:
    return f"{found.least:.3g} to {found.most:.3g}"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A table of scores on a scale that an audit accepts.

    Attributes:
        form: ``probs``, ``logits``, or ``labels`` for rows that hold a single 1.
        values: (n, classes) on that scale.
        why: how the scale was recognized, and how the values were changed.
        sure: False for values that are taken to be logits only because they fit no other scale.
    """

    form: str
    values: Array
    why: str
    sure: bool = True


def recognized(block: Array) -> Scale | str:
    """The scale of (n, classes) finite numbers, or why it is unclear and what to do about it."""
    found, width = facts(block), block.shape[1]
    total = found.total
    if found.sums_to_one or (total is not None and found.varies):
        values, why = block, f"{width} non-negative columns whose rows sum to one"
        if not found.sums_to_one and total is not None:
            values = block / total
            why = f"{width} non-negative columns whose rows all sum to {total:.6g}: {shares(total)}, divided by {total:.6g}"
        if np.isin(values[:1000], (0, 1)).all() and np.isin(values, (0, 1)).all():
            return Scale(
                form="labels", values=values, why=f"each row of {width} holds a single {total or 1:.6g}: labels, one-hot"
            )
        return Scale(form="probs", values=values, why=why)
    if found.log_sum:
        return Scale(
            form="logits",
            values=block,
            why=f"{width} columns of log-probabilities, which are logits up to a constant per record",
        )
    if found.minus_log_sum and np.exp(-block.min(axis=1)).min() < 0.99:  # rows with a 0 and large numbers may also be logits
        return Scale(
            form="logits", values=-block, why=f"{width} columns of negative log-probabilities, read with their sign changed"
        )
    if found.low >= 0 and found.high <= 1:
        way = "normalize the rows, or give the sigmoids' logits, log(p / (1 - p))"
        if found.spread <= SPREAD:
            way += "; output=logits if they are logits"
        return (
            f"{width} columns in [0, 1] whose rows sum to {_range(found)}: neither labels nor clearly probabilities or logits, perhaps "
            f"one sigmoid per class; allowed: {way}"
        )
    if found.low >= 0:
        return (
            f"{width} columns from {found.low:.3g} to {found.high:.3g}, none below 0, whose rows sum to {_range(found)}: neither "
            "probabilities nor clearly logits; allowed: normalize the rows if they are shares, or output=logits if they are "
            "logits"
        )
    return Scale(
        form="logits", values=block, sure=False,
        why=f"{width} columns from {found.low:.3g} to {found.high:.3g} whose rows do not sum to one",
    )  # fmt: skip
