"""Labels of a user's file, as they are: words, booleans or whole numbers of any size become classes, numbered in sorted order."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.errors import UserError

ALLOWED = "whole numbers, booleans or words, one for each record"


def as_classes(y: NDArray[Any], *, where: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """(n,) the class of each label, from 0, and the classes' names: the different labels as text, in sorted order.

    Args:
        y: (n,) labels. Floats that are whole numbers are taken for these, since tables with gaps are often stored so.
        where: the beginning of error messages, such as ``dataset=own.npz: y``.

    Raises:
        UserError: labels of another type or shape, missing or infinite ones, fractions, or fewer than two classes.
    """
    if y.ndim != 1 or y.dtype.kind not in "iubfU":
        raise UserError(f"{where} is {y.dtype} of shape {y.shape}; allowed: {ALLOWED}")
    if y.dtype.kind == "f":
        lacking = int((~np.isfinite(y)).sum())
        if lacking:
            raise UserError(f"{where} has {lacking} missing or infinite labels; allowed: a label for each record")
        odd = np.flatnonzero(y != np.round(y))
        if len(odd):
            raise UserError(f"{where} holds {y[odd[0]]:g} in row {odd[0]} (counted from 0); allowed: {ALLOWED}")
        y = np.array([int(value) for value in y.tolist()])
    values, place = np.unique(y, return_inverse=True)
    if len(values) < 2:
        raise UserError(f"{where} has {'only one class' if len(values) else 'no labels'}; allowed: at least two classes")
    return place.reshape(-1).astype(np.int64), tuple(str(value) for value in values.tolist())


def as_groups(values: NDArray[Any], *, where: str, records: int) -> NDArray[np.int64]:
    """(n,) the number of each record's group, from 0.

    Args:
        values: (n,) numbers, booleans or words.
        where: the beginning of error messages.
        records: n.

    Raises:
        UserError: another shape or type, missing values, or all records in one group.
    """
    if values.shape != (records,) or values.dtype.kind not in "iubfU":
        raise UserError(
            f"{where} is {values.dtype} of shape {values.shape} for {records} records; allowed: a number or a word for each record"
        )
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise UserError(f"{where}: {int(np.isnan(values).sum())} records have no group; allowed: a group for each record")
    found, place = np.unique(values, return_inverse=True)
    groups: NDArray[np.int64] = place.reshape(-1).astype(np.int64)
    if len(found) < 2:
        raise UserError(
            f"{where}: all records are in one group, {found[0] if len(found) else ''}; allowed: at least two groups"
        )
    return groups
