"""Members and non-members from a user's files: ``.npz`` of ``x`` and ``y``, Parquet, or CSV with a label column.

A record is identified by its content: the same features and label are the same record, in whichever file. This makes it possible to find
records that are on both sides, and to pair audits of different models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from memberscope.datasets.schema import Records, one_schema
from memberscope.datasets.values import check_values
from memberscope.errors import UserError, nearest
from memberscope.npz import read_npz
from memberscope.reading import columns, frames
from memberscope.reading.files import check_file
from memberscope.reading.frames import check_names

__all__ = ["Records", "check_apart", "check_names", "digest", "plain_labels", "read_records", "record_ids"]

KINDS = ".npz, .parquet or .csv"


def read_records(name: str, path: str, *, label: str, na_values: tuple[str, ...] = ()) -> Records:
    """Read one side. A CSV file is read as plain text, and `schema.one_schema` gives both sides' columns their types.

    Args:
        name: the parameter, for errors.
        path: an ``.npz`` with arrays ``x`` and ``y`` (nothing in it is executed), a ``.parquet`` or a ``.csv``.
        label: the column of a table that holds the labels.
        na_values: words that mean a missing value; empty cells always do.

    Raises:
        UserError: the file is missing, of another kind or empty, lacks labels or has missing ones; or it is Parquet and pyarrow is not
            installed.
    """
    if not path:
        raise UserError(f"{name}=: missing; allowed: the path of a file, {KINDS}")
    check_file(Path(path), where=f"{name}={path}", allowed=f"the path of a file, {KINDS}")
    kind = Path(path).suffix.lower()
    if kind == ".npz":
        return _arrays(name, path)
    if kind in (".parquet", ".pq", ".csv"):
        return _table(name, path, label, na_values, csv=kind == ".csv")
    raise UserError(f"{name}={path}: unknown kind of file; allowed: {KINDS}")


def _arrays(name: str, path: str) -> Records:
    try:
        arrays = read_npz(Path(path))
    except UserError as error:
        raise UserError(f"{name}={error}") from None
    for key in ("x", "y"):
        if key not in arrays:
            raise UserError(
                f"{name}={path}: has no array {key!r}, only {', '.join(sorted(arrays)) or 'nothing'}; allowed: a file with x and y"
            )
    x, y = arrays["x"], arrays["y"]
    if x.ndim < 2 or not len(x) or x.dtype.kind not in "fiub":
        raise UserError(f"{name}={path}: x is {x.dtype} of shape {x.shape}; allowed: numbers (records, ...)")
    check_values(x, f"{name}={path}: x")
    if y.shape != x.shape[:1] or y.dtype.kind not in "fiubUS":
        raise UserError(f"{name}={path}: y is {y.dtype} of shape {y.shape} for {len(x)} records; allowed: one label per record")
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        lacking = int((~np.isfinite(y)).sum())
        raise UserError(f"{name}={path}: {lacking} records have no label, or an infinite one; allowed: a label per record")
    others = {key: array for key, array in arrays.items() if key not in ("x", "y")}
    return Records(x=x, y=y, name=name, path=path, others=others)


def _table(name: str, path: str, label: str, na_values: tuple[str, ...], *, csv: bool) -> Records:
    where = f"{name}={path}"
    frame = frames.read_frame(Path(path), where=where, allowed=KINDS)
    if label not in frame.columns:
        shown = ", ".join(frame.columns[:12]) + (", ..." if len(frame.columns) > 12 else "")
        raise UserError(f"label={label}: no column of {path}; allowed: one of {shown}{nearest(label, frame.columns)}")
    if not len(frame):
        raise UserError(f"{where}: no records; allowed: at least one")
    y = frame.pop(label)
    missing = int((columns.of_text(y, na_values) if csv else columns.of_values(label, where, y, na_values)).missing.sum())
    if missing:
        raise UserError(f"{where}: {missing} records have no {label}; allowed: a label per record")
    labels = y.to_numpy(dtype=object) if csv else plain_labels(y, where=where)
    return Records(x=frame, y=labels, name=name, path=path, text=csv)


def plain_labels(labels: Any, *, where: str = "label") -> NDArray[Any]:
    """Labels as numbers, booleans or text, never objects, whether their column is nullable, Arrow, categorical or of objects.

    Raises:
        UserError: a label is missing, or is none of these. The message begins with `where`.
    """
    import pandas as pd

    array = labels if hasattr(labels, "dtype") else np.asarray(labels)
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if array.ndim != 1:
        raise UserError(f"{where}: labels of shape {array.shape}; allowed: one label per record")
    column = columns.of_values("label", where, pd.Series(array))
    if column.missing.any():
        raise UserError(f"{where}: {int(column.missing.sum())} records have no label; allowed: a label per record")
    if column.kind == columns.NUMBERS:
        return columns.numbers(column)
    return columns.booleans(column) if column.kind == columns.BOOLEANS else columns.words(column).astype(str)


def record_ids(members: Records, nonmembers: Records) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """One number per record, the same for the same features and label: 63 bits of BLAKE2b over their values under one schema.

    Numbers are compared as numbers: 1 in one file equals 1.0 in the other. Columns are compared by name, in any order. Pass only the
    columns that the model takes: any other, such as a row number, would make every record unique.

    Raises:
        UserError: the files' records have different shapes or columns, or a column's values are not of one type in both.
    """
    (members, nonmembers), _ = one_schema([members, nonmembers])
    ours, theirs = members.x, nonmembers.x
    if set(members.columns or ()) != set(nonmembers.columns or ()) or (members.columns is None) != (nonmembers.columns is None):
        mine, other = set(members.columns or ()), set(nonmembers.columns or ())
        apart = sorted(mine ^ other)
        difference = f"columns {', '.join(apart[:8])} are in one file only"
        if members.columns is None or nonmembers.columns is None:
            difference = "one file has an array, the other a table"
        raise UserError(f"nonmembers={nonmembers.path}: {difference}; allowed: two files of the same form")
    if isinstance(ours, np.ndarray) and isinstance(theirs, np.ndarray):
        if ours.shape[1:] != theirs.shape[1:]:
            raise UserError(
                f"nonmembers={nonmembers.path}: records of shape {theirs.shape[1:]}, but members of shape {ours.shape[1:]}; "
                "allowed: the same shape"
            )
        if ours.dtype == theirs.dtype and ours.dtype.kind in "iub":
            return _hashed(members, ours), _hashed(nonmembers, theirs)
        return _hashed(members, columns.as_float64(ours)), _hashed(nonmembers, columns.as_float64(theirs))
    first, second = _rows([members, nonmembers])
    return _hashed(members, first), _hashed(nonmembers, second)


def _rows(sides: Sequence[Records]) -> list[NDArray[Any] | list[bytes]]:
    """The rows of frames with one schema, as numbers or bytes; columns are ordered by name, numbers before text."""
    read = [{name: columns.of_values(name, side.where, side.x[name]) for name in sorted(side.columns or ())} for side in sides]
    kinds: dict[str, str] = {}
    for name in read[0]:  # a side without any value here has no kind
        known = [side[name].kind or "" for side in read if not side[name].missing.all()]
        kinds[name] = known[0] if known else columns.NUMBERS
    return [_row_keys(side, kinds, len(each)) for side, each in zip(read, sides, strict=True)]


def _row_keys(side: dict[str, columns.Column], kinds: dict[str, str], count: int) -> NDArray[Any] | list[bytes]:
    numbers, text = [], []
    for name, column in side.items():
        values, words = columns.keys(column, kinds[name])
        numbers += [values] if values is not None else []
        text += [words] if words is not None else []
    rows = np.stack(numbers, axis=1) if numbers else np.empty((count, 0))
    if not text:
        return rows
    joined = [
        "".join(f"{len(word)}:{word}" for word in row).encode("utf-8", "surrogatepass") for row in zip(*text, strict=True)
    ]
    return [row.tobytes() + word for row, word in zip(rows, joined, strict=True)]


def _hashed(side: Records, rows: NDArray[Any] | list[bytes]) -> NDArray[np.int64]:
    labels = [
        str(int(value)) if isinstance(value, float | bool) and value == int(value) else str(value) for value in side.y.tolist()
    ]
    found = np.empty(len(side), dtype=np.uint64)
    for number, (row, label) in enumerate(zip(rows, labels, strict=True)):
        key = (
            label.encode() if len(label.encode()) <= hashlib.blake2b.MAX_KEY_SIZE else hashlib.blake2b(label.encode()).digest()
        )
        digest = hashlib.blake2b(row if isinstance(row, bytes) else row.tobytes(), digest_size=8, key=key)
        found[number] = int.from_bytes(digest.digest(), "little")
    return (found >> np.uint64(1)).astype(np.int64)


def check_apart(members: NDArray[np.int64], nonmembers: NDArray[np.int64], *, allowed: bool) -> str:
    """A phrase on the records that are on both sides, which names none of them, since runs keep it; empty if there are none.

    Raises:
        UserError: there are some, and they are not `allowed`; the message gives their number and the rows of the first few.
    """
    shared = np.isin(members, nonmembers)
    count = int(shared.sum())
    if not count:
        return ""
    overlap = f"{count} of {len(members)} members are also non-members"
    if not allowed:
        place = {int(record): row for row, record in reversed(list(enumerate(nonmembers.tolist())))}
        first = [f"{row} is {place[int(members[row])]}" for row in np.flatnonzero(shared)[:3]]
        rows = f"row, counted from 0, of members and of nonmembers: {', '.join(first)}"
        raise UserError(f"nonmembers: {overlap} ({rows}); allowed: records that the model never saw, or allow_overlap=yes")
    return f"{overlap}; allow_overlap=yes keeps them, and they pull every metric toward chance"


def digest(ids: NDArray[np.int64]) -> str:
    """SHA-256 of one side, from its records' numbers in order."""
    return hashlib.sha256(np.ascontiguousarray(ids, dtype="<i8").tobytes()).hexdigest()
