"""Checks of the arrays that a user passes in: each raises one line naming the array, its fault and what is allowed.

They look at chunks of rows, so that checking a million rows of a hundred float32 numbers needs no second copy of them.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from memberscope.errors import UserError
from memberscope.pieces import pieces
from memberscope.pieces import row_chunks as row_chunks

Array = NDArray[Any]
BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]

SUM_TOLERANCE = 1e-3


def join(names: tuple[str, ...] | list[str]) -> str:
    """``"a and b"``."""
    return " and ".join(names)


def check_finite(name: str, array: Array, *, most: float = np.inf) -> None:
    """Raise with the count of NaN and infinite values, or else of values larger in size than `most`, and the first one's index."""
    if not array.ndim:
        array = array.reshape(1)
    limited = array.dtype.kind == "f" and most < float(np.finfo(array.dtype).max)
    count, large, first, first_large = 0, 0, "", ""
    for start, part in pieces(array):
        bad = ~np.isfinite(part)
        if bad.any():
            first = first or shown_place(start, bad)
            count += int(bad.sum())
        if limited and (beyond := np.abs(part) > most).any():
            first_large = first_large or shown_place(start, beyond)
            large += int(beyond.sum())
    if count:
        raise UserError(f"{name}: {count} NaN or infinite values, the first at {first}; all must be finite")
    if large:
        raise UserError(
            f"{name}: {large} values beyond {most:g}, the first at {first_large}; allowed: from -{most:g} to {most:g}"
        )


def shown_place(start: tuple[int, ...], found: BoolArray) -> str:
    """The position of the first entry that is true in a piece of an array, for a message; `start` is that of the piece."""
    inside = [int(place) for place in np.argwhere(found)[0]]
    index = [*start[:-1], start[-1] + inside[0], *inside[1:]]
    return str(index) if len(index) > 1 else str(index[0])


def is_number(array: Array) -> bool:
    """Whether the array holds real numbers, not booleans, text or complex numbers."""
    return bool(np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer))


def check_classes(name: str, array: Array, *, below: int | None) -> None:
    """Raise unless `array` holds integers from 0, and under `below` where that is known."""
    if not np.issubdtype(array.dtype, np.integer):
        raise UserError(f"{name}: dtype {array.dtype}; allowed: integers, the classes counted from 0")
    if array.size and array.min() < 0:
        raise UserError(f"{name}: smallest value {array.min()}; classes are counted from 0")
    if below is not None and array.size and array.max() >= below:
        count = int((array >= below).sum())
        raise UserError(
            f"{name}: {count} values outside the {below} classes, the largest {array.max()}; allowed: 0 to {below - 1}"
        )


def check_labels(name: str, array: Array) -> None:
    """Raise unless `array` holds classes as whole numbers of any size and sign, or as words."""
    if not np.issubdtype(array.dtype, np.integer) and array.dtype.kind not in "US":
        raise UserError(f"{name}: dtype {array.dtype}; allowed: classes as integers or words")


def label_name(value: Any) -> str:
    """A label as text, the same for 1, 1.0 and True."""
    if isinstance(value, np.generic):
        value = value.item()
    return str(int(value)) if isinstance(value, bool | float) and value == value // 1 else str(value)


def plain_array(name: str, value: ArrayLike) -> Array:
    """`value` as an array of plain numbers, booleans or text; pandas often holds these as objects (text, nullable and Arrow columns).

    Raises:
        UserError: rows of unequal lengths, a missing value in an array that cannot hold NaN, or objects of any other kind.
    """
    try:
        array = np.asarray(value)
    except ValueError:
        raise UserError(f"{name}: rows of unequal lengths; allowed: a rectangular array") from None
    if array.dtype.kind == "f" and hasattr(value, "isna") and not isinstance(getattr(value, "dtype", array.dtype), np.dtype):
        array = np.asarray(value, dtype=object)  # pandas 3 makes floats of whole numbers among which some are missing
    if not array.dtype.hasobject:
        return array
    cells = array.ravel().tolist()
    known = [cell for cell in cells if not _lacks(cell)]
    found = next((kind for kind in (bool, int, float, str) if known and all(isinstance(cell, kind) for cell in known)), None)
    if found is int or (found is None and known and all(isinstance(cell, int | float | Decimal) for cell in known)):
        found = float if len(known) < len(cells) or found is None else int
    if found is None or (found is float and not hasattr(value, "iloc")):  # only pandas holds numbers as objects
        raise UserError(f"{name}: holds Python objects; allowed: plain numbers, booleans or text")
    whole = name != "inputs" and bool(known) and all(isinstance(cell, int) for cell in known)
    if (found is not float or whole) and len(known) < len(cells):
        raise UserError(f"{name}: {len(cells) - len(known)} missing values; allowed: a value for each record")
    plain = np.array([float(np.nan if _lacks(cell) else cell) for cell in cells] if found is float else cells)
    if plain.dtype.hasobject:
        raise UserError(f"{name}: holds whole numbers of more than 64 bits; allowed: plain numbers, booleans or text")
    return plain.reshape(array.shape)


def _lacks(cell: object) -> bool:
    """Whether this is None, NaN, or one of pandas' missing values."""
    return cell is None or type(cell).__name__ in ("NAType", "NaTType") or (isinstance(cell, float) and cell != cell)


def signed(array: Array) -> Array:
    """uint64 class numbers as int64, which counting and indexing need; unless some are too large, which is refused elsewhere."""
    fits = array.dtype == np.uint64 and (not array.size or int(array.max()) <= np.iinfo(np.int64).max)
    return array.astype(np.int64) if fits else array


def frozen_view(name: str, value: ArrayLike) -> Array:
    """A read-only view of `value`, made plain by `plain_array`."""
    array = plain_array(name, value)
    if name in ("labels", "predicted", "perturbed_labels", "shadow_labels"):
        array = signed(array)
    view = array.view()
    view.flags.writeable = False
    return view
