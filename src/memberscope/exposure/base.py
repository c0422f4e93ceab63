"""What all measures of exposure share: the type of a measure, complementary pairs of models, and pieces of records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.checks import Array, BoolArray, FloatArray, check_finite
from memberscope.errors import UserError
from memberscope.file_state import loaded
from memberscope.pieces import release

Ints = NDArray[np.int64]
Texts = NDArray[np.object_]
CHUNK = 1 << 21  # numbers of a temporary array


@dataclass(frozen=True, kw_only=True, eq=False)
class Measure:
    """One measure of n records.

    Attributes:
        name: as in GLOSSARY.md.
        value: (n,) the estimates; NaN where `reason` says why there is none.
        low: (n,) lower ends of the 95% intervals over models; NaN where there is none.
        high: (n,) upper ends.
        p_value: (n,) p-values of *no effect of the record's own membership*, corrected for the number of records; None if not tested.
        reason: (n,) text why the record has no value or no interval; "" where it has both.
    """

    name: str
    value: FloatArray
    low: FloatArray
    high: FloatArray
    reason: Texts
    p_value: FloatArray | None = None


def absent(name: str, n: int, reason: str) -> Measure:
    """A measure that no record has, and why."""
    nothing = np.full(n, np.nan)
    return Measure(name=name, value=nothing, low=nothing, high=nothing, reason=np.full(n, reason, dtype=object))


def check_fleet(member: Array, **arrays: Array) -> None:
    """Raise UserError unless all arrays are (models, records) like `member`, which is bool; numbers must be finite."""
    if member.dtype != np.bool_ or member.ndim != 2:
        raise UserError(f"member: {member.dtype} of shape {member.shape}; allowed: booleans of shape (models, records)")
    for name, array in arrays.items():
        if array.shape != member.shape:
            raise UserError(
                f"{name}: shape {array.shape}; member has {member.shape}, (models, records); allowed: the same shape"
            )
        if array.dtype != np.bool_:
            check_finite(name, array)


def complementary_pairs(member: BoolArray) -> NDArray[np.intp]:
    """(p, 2) models in pairs of which each record is a member of exactly one; no pairs (0, 2) unless all models are in one.

    A shadow study of design ``half`` trains such pairs. The two models of a pair are not independent: their training sets exclude each
    other, so whatever a record gains from a neighbour in one, it lacks in the other.
    """
    other = twins(member)
    if not member.size or (other < 0).any():
        return np.empty((0, 2), dtype=np.intp)
    first = np.flatnonzero(np.arange(len(member)) < other)
    return np.column_stack([first, other[first]])


def twins(member: BoolArray) -> NDArray[np.intp]:
    """(models,) the other model of each model's complementary pair; -1 for a model without one."""
    found = np.full(len(member), -1, dtype=np.intp)
    waiting: dict[bytes, list[int]] = {}
    for model, row in enumerate(member):
        twin = waiting.get(np.packbits(~row).tobytes())
        if twin:
            other = twin.pop(0)
            found[[model, other]] = other, model
        else:
            waiting.setdefault(np.packbits(row).tobytes(), []).append(model)
    return found


def record_chunks(models: int, records: int) -> Iterator[slice]:
    """Slices of records such that (models, records of a slice) holds about `CHUNK` numbers."""
    step = max(1, CHUNK // max(1, models))
    for start in range(0, records, step):
        yield slice(start, min(records, start + step))


def records_of(values: Array, rows: slice) -> FloatArray:
    """(models, r) float64, some records of (models, n) numbers; of a mapped file, no page stays in memory."""
    found: FloatArray = loaded(values[:, rows]).astype(np.float64)
    release(values)
    return found


def lacking(counts_in: Any, counts_out: Any, least: int, what: str) -> Texts:
    """(n,) a reason for the records that have fewer than `least` IN or OUT models, else ""."""
    found = np.full(len(counts_in), "", dtype=object)
    for count_in, count_out in {*zip(counts_in.tolist(), counts_out.tolist(), strict=True)}:
        if count_in < least or count_out < least:
            text = f"{what} needs at least {least} IN and {least} OUT models (the record has {count_in} and {count_out})"
            found[(counts_in == count_in) & (counts_out == count_out)] = text
    return found
