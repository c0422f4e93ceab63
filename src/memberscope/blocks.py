"""Finds the probabilities in a model's output that also has other columns: a class, a confidence, a record number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from memberscope.checks import SUM_TOLERANCE, Array, FloatArray
from memberscope.errors import UserError

TOTALS = (1.0, 100.0)
"""The rows of a block sum to one of these: probabilities, or percentages."""
LEAST_ROWS = 8
"""With fewer records, columns may sum to one by chance."""
_PROBED, _WIDE, _EDGE = 64, 512, 16


def find_block(array: Array, *, classes: int | None, names: Sequence[str] | None) -> list[int] | None:
    """The columns of (n, width) numbers that hold one probability per class beside other columns; None if there is no such block.

    A block consists of two or more columns that are neighbours once those that cannot hold probabilities are set aside. They are
    non-negative, and each row sums to one (or each to 100). Columns of zeros at a block's left edge may be classes that never got any
    probability, or something else: `classes`, the number of classes if the model gives it, decides.

    Raises:
        UserError: there are several such blocks, or it is unclear where the block begins.
    """
    if len(array) < LEAST_ROWS or array.shape[1] < 3:
        return None
    able = np.flatnonzero((array.min(axis=0) >= 0) & (array.max(axis=0) <= max(TOTALS)))
    values = array[:, able].astype(np.float64)
    found = [window for window in _windows(values) if np.ptp(values[:, window[0] : window[1]], axis=0).astype(bool).sum() > 1]
    if not found or (len(able) == array.shape[1] and (0, len(able)) in found):
        return None
    if classes is not None:
        found = [window for window in found if window[1] - window[0] == classes] or found
    empty = ~values.any(axis=0)
    cores = {_core(window, empty) for window in found}
    if len(cores) > 1:
        shown = " and ".join(say_columns(able[start:stop], names) for start, stop in sorted(cores)[:3])
        raise UserError(
            f"output: {len(cores)} blocks of columns each sum to one ({shown}); allowed: a model that returns one of them"
        )
    begins = {start for start, _ in found}
    if len(begins) > 1:
        columns = say_columns(able[min(begins) : max(begins)], names)
        raise UserError(
            f"output: {columns} next to one probability per class: zeros only, which may be a class or something else; allowed: "
            "only the probabilities"
        )
    start, stop = max(found, key=lambda window: window[1])
    return [int(column) for column in able[start:stop]]


def _core(window: tuple[int, int], empty: Array) -> tuple[int, int]:
    """The window without the columns of zeros at its edges."""
    held = np.flatnonzero(~empty[window[0] : window[1]])
    return window[0] + int(held[0]), window[0] + int(held[-1]) + 1


def _windows(values: FloatArray) -> list[tuple[int, int]]:
    """Windows (start, stop) of two or more columns of (n, width) whose rows all sum to the same one of `TOTALS`."""
    width = values.shape[1]
    sums = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
    probed = sums[np.unique(np.linspace(0, len(sums) - 1, _PROBED).astype(int))]
    found = []
    for start in range(width if width <= _WIDE else _EDGE):
        first = start + 2 if width <= _WIDE else max(start + 2, width - _EDGE)
        ends = np.arange(first, width + 1)
        for total in TOTALS:
            off = np.abs(probed[:, ends] - probed[:, [start]] - total).max(axis=0, initial=0.0)
            for stop in ends[off <= SUM_TOLERANCE * total]:
                if np.abs(sums[:, stop] - sums[:, start] - total).max() <= SUM_TOLERANCE * total:
                    found.append((start, int(stop)))
    return found


def odd_columns(array: Array) -> list[int]:
    """Columns of (n, width) numbers that are unlikely to be logits: whole numbers that vary, beside columns of fractions."""
    whole = (array == np.floor(array)).all(axis=0)
    varies = (array != array[:1]).any(axis=0)
    fractions = varies & ~whole
    return [int(column) for column in np.flatnonzero(whole & varies)] if fractions.any() else []


def narrow_columns(array: Array) -> list[int]:
    """Columns that vary within [0, 1], if they are at least half of the varying columns and the others leave that range."""
    varies = (array != array[:1]).any(axis=0)
    inside = varies & (array.min(axis=0) >= 0) & (array.max(axis=0) <= 1)
    return [int(column) for column in np.flatnonzero(inside)] if varies.sum() > inside.sum() >= max(2, varies.sum() / 2) else []


def say_columns(columns: Sequence[int] | Array, names: Sequence[str] | None) -> str:
    """Columns as a message calls them: by their names if they have any, else by their numbers, counted from 0."""
    listed = [int(column) for column in columns]
    if names is not None:
        shown = ", ".join(names[column] for column in listed[:3])
        return f"column{'s' if len(listed) > 1 else ''} {shown}{f' to {names[listed[-1]]}' if len(listed) > 3 else ''}"
    if len(listed) == 1:
        return f"column {listed[0]}"
    gapless = listed == list(range(listed[0], listed[-1] + 1))
    return f"columns {listed[0]} to {listed[-1]}" if gapless else f"columns {', '.join(map(str, listed[:8]))}"
